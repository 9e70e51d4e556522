"""Activations between two segments, in memory up to a limit and in temporary files beyond it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO

import numpy as np

from graphprune.ir.arrays import Array, Doubles

MEMORY_LIMIT = 2**28


@dataclass(frozen=True)
class _Parked:
    """Where an array lies in the file of its value."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


class Held:
    """Arrays by (batch, name of a value).

    Args:
        limit: bytes that are kept in memory; None for a quarter of a GiB.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = MEMORY_LIMIT if limit is None else limit
        self._arrays: dict[int, dict[str, Array | _Parked]] = {}
        self._bytes = 0
        self._files: dict[str, IO[bytes]] = {}
        self._parked: Counter[str] = Counter()

    def __getitem__(self, batch: int) -> Mapping[str, Array]:
        """Everything held of a batch."""
        mine = self._arrays.get(batch, {})
        return {n: self._read(n, a) if isinstance(a, _Parked) else a for n, a in mine.items()}

    def put(self, batch: int, name: str, array: Array) -> None:
        """Keep an array."""
        held: Array | _Parked = array
        if self._bytes + array.nbytes <= self._limit or array.dtype == object:
            self._bytes += array.nbytes
        else:
            held = self._park(name, array)
        self._arrays.setdefault(batch, {})[name] = held

    def drop(self, batch: int, names: Iterable[str]) -> None:
        """Forget arrays; the file of a value goes with its last one."""
        mine = self._arrays.get(batch, {})
        for name in names:
            held = mine.pop(name, None)
            if isinstance(held, _Parked):
                self._parked[name] -= 1
                if not self._parked[name]:
                    self._files.pop(name).close()
            elif held is not None:
                self._bytes -= held.nbytes

    def _park(self, name: str, array: Array) -> _Parked:
        if name not in self._files:
            self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by drop
        file = self._files[name]
        offset = file.seek(0, 2)
        file.write(np.ascontiguousarray(array).tobytes())
        self._parked[name] += 1
        return _Parked(offset, array.dtype, array.shape)

    def _read(self, name: str, parked: _Parked) -> Array:
        file = self._files[name]
        file.seek(parked.offset)
        content = file.read(prod(parked.shape) * parked.dtype.itemsize)
        return np.frombuffer(content, parked.dtype).reshape(parked.shape)


def pool(elements: int) -> Callable[[tuple[int, ...]], Doubles]:
    """Makes arrays of zeros, up to so many elements together, that lie in one temporary file."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- the map keeps it open
    content: Doubles = np.memmap(file, np.float64, "w+", shape=(max(1, elements),))
    taken = 0

    def zeros(shape: tuple[int, ...]) -> Doubles:
        nonlocal taken
        start, taken = taken, taken + prod(shape)
        return content[start:taken].reshape(shape)

    return zeros
