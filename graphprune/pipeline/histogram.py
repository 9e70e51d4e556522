"""Counts of numbers between edges, on a scale that shows how they are spread."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Doubles

BINS = 20
SPREAD = 100.0
"""Where the largest is more than so many medians, edges grow by a factor instead of a step."""
DEPTH = 1e-6
"""Share of the largest below which numbers are not told apart on such a scale."""


def edges(values: Doubles) -> Doubles:
    """Edges of bins for finite values; none where they are all alike."""
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() == finite.max():
        return np.empty(0)
    low, high = float(finite.min()), float(finite.max())
    middle = float(np.median(finite))
    if low >= 0 and high > SPREAD * middle:
        floor = max(low, DEPTH * high)
        return np.geomspace(floor, high, BINS + 1) if 0 < floor < high else np.empty(0)
    return np.linspace(low, high, BINS + 1)


def counts(values: Doubles, between: Doubles) -> tuple[int, ...]:
    """How many values lie between neighbouring edges; those beyond are in the first or the last."""
    if not between.size:
        return ()
    at = np.searchsorted(between[1:-1], values[~np.isnan(values)], side="right")
    return tuple(np.bincount(at, minlength=between.size - 1).tolist())
