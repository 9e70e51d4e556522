"""Samples that are held back: what a repair never saw says how good it is."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Arrays, Bools
from graphprune.runtime.data import layout
from graphprune.runtime.stream import Store

LEAST = 32
"""Of fewer samples none can be spared."""
MOST, SHARE = 64, 8
"""So many are held back at most, and one in so many."""

Sets = list[dict[str, np.ndarray]]


def held_back(samples: int) -> int:
    """How many samples are held back."""
    return min(MOST, samples // SHARE) if samples >= LEAST else 0


def parted(samples: int, whole: bool) -> tuple[int, int]:
    """How many samples choose between results, and how many are for the report: a quarter each.

    Args:
        samples: how many there are.
        whole: whether none is needed for the report; then a third chooses.
    """
    return (samples // 3, 0) if whole else (samples // 4, samples // 4)


def count(sets: Sequence[Arrays], model: ir.Model) -> int:
    """Samples of all sets."""
    return sum(layout(arrays, model).count for arrays in sets)


def divide(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> tuple[Sets, Sets]:
    """A random choice of samples, and all others; both in their order."""
    taken = _drawn(sets, model, number, seed)
    return picked(sets, model, taken), picked(sets, model, [~mine for mine in taken])


def some(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> Sets:
    """A random choice of samples, in their order."""
    return picked(sets, model, _drawn(sets, model, number, seed))


def drawn(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> tuple[int, ...]:
    """Numbers of the samples that are chosen so, counted over all sets."""
    taken = np.concatenate(_drawn(sets, model, number, seed))
    return tuple(np.flatnonzero(taken).tolist())


def _drawn(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> list[Bools]:
    """Which samples of each set are chosen."""
    counts = [layout(arrays, model).count for arrays in sets]
    total = sum(counts)
    taken = np.zeros(total, bool)
    taken[np.random.default_rng(seed).choice(total, min(number, total), replace=False)] = True
    return np.split(taken, np.cumsum(counts)[:-1])


def picked(sets: Sequence[Arrays], model: ir.Model, taken: Sequence[Bools]) -> Sets:
    """Those samples of each set that are taken, in their order."""
    store = Store()
    for arrays, mine in zip(sets, taken, strict=True):
        if mine.all():
            store.hold(arrays, arrays)
        elif mine.any():
            store.hold(layout(arrays, model).pick(arrays, np.flatnonzero(mine).tolist()), arrays)
    return store.arrays()


def digest(sets: Sequence[Arrays]) -> str:
    """A change detector of samples: names, types, shapes and bits."""
    return f"{zlib.crc32(b''.join(_parts(sets))):08x}"


def _parts(sets: Sequence[Arrays]) -> Iterator[bytes]:
    for arrays in sets:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            text = array.dtype.kind in "OSU"
            bits = repr(array.tolist()).encode() if text else array.reshape(-1).view(np.uint8).data
            yield f"{name} {array.dtype} {array.shape} {zlib.crc32(bits)}\n".encode()
