"""Samples that are held back: what a repair never saw says how good it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphprune.runtime.data import Arrays, layout

LEAST = 32
"""Of fewer samples none can be spared."""
MOST, SHARE = 64, 8
"""So many are held back at most, and one in so many."""

Sets = list[dict[str, np.ndarray]]


def held_back(samples: int) -> int:
    """How many samples are held back."""
    return min(MOST, samples // SHARE) if samples >= LEAST else 0


def count(sets: Sequence[Arrays], model: ir.Model) -> int:
    """Samples of all sets."""
    return sum(layout(arrays, model).count for arrays in sets)


def divide(sets: Sequence[Arrays], model: ir.Model, number: int, seed: int) -> tuple[Sets, Sets]:
    """A random choice of samples, and all others; both in their order."""
    layouts = [layout(arrays, model) for arrays in sets]
    total = sum(found.count for found in layouts)
    taken = np.zeros(total, bool)
    taken[np.random.default_rng(seed).choice(total, min(number, total), replace=False)] = True
    chosen: Sets = []
    rest: Sets = []
    start = 0
    for arrays, found in zip(sets, layouts, strict=True):
        mine = taken[start : start + found.count]
        start += found.count
        for part, numbers in ((chosen, np.flatnonzero(mine)), (rest, np.flatnonzero(~mine))):
            if len(numbers):
                whole = len(numbers) == found.count
                part.append(dict(arrays) if whole else found.pick(arrays, numbers.tolist()))
    return chosen, rest
