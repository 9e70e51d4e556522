"""Whether samples stand in an order, such as frames of a film: neighbours then tell of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Arrays, Bools
from graphprune.runtime.data import layout

NEAR = 0.5
"""Share of the squared distance of any two samples below which neighbours are alike."""
BLOCKS = 48
"""Stretches that ordered samples are cut into."""
FEATURES = 256


def blocks(sets: Sequence[Arrays], model: ir.Model, total: int) -> int:
    """Samples that belong together: 1 where neighbours are no more alike than others."""
    return max(1, total // BLOCKS) if any(_ordered(arrays, model) for arrays in sets) else 1


def _ordered(arrays: Arrays, model: ir.Model) -> bool:
    found = layout(arrays, model)
    for name, axis in found.axes.items():
        array = arrays[name]
        if array.dtype.kind != "f" or found.count < 2 * BLOCKS:
            continue
        rows = np.moveaxis(array, axis, 0).reshape(found.count, -1)
        rows = rows[:, :: max(1, rows.shape[1] // FEATURES)].astype(np.float64)
        near = float(np.square(np.diff(rows, axis=0)).mean())
        spread = 2 * float(rows.var(axis=0).mean())
        if spread > 0 and near < NEAR * spread:
            return True
    return False


def parts(
    sets: Sequence[Arrays], model: ir.Model, sizes: Sequence[int], seed: int
) -> tuple[list[list[Bools]], int]:
    """Which samples of each set fall into parts of these sizes, and how many stay together in a block."""
    counts = [layout(arrays, model).count for arrays in sets]
    total = sum(counts)
    width = blocks(sets, model, total)
    order = np.random.default_rng(seed).permutation(-(-total // width))
    numbers = (order[:, None] * width + np.arange(width)).ravel()
    numbers = numbers[numbers < total]
    found, first = [], 0
    for size in sizes:
        taken = np.zeros(total, bool)
        taken[numbers[first : first + size]] = True
        found.append(np.split(taken, np.cumsum(counts)[:-1]))
        first += size
    return found, width
