"""Whether what a layer of several columns gives are scores of classes, as far as samples can tell.

Scores that were trained by cross-entropy are driven apart: its gradient, p - y, sums to zero over the
classes, so their mean is hardly trained. Quantities side by side, such as ratings or numbers of a picture,
often rise and fall together. That is for one row per sample: of the many classes that tokens have, most are
rare and fall together, too. And where one class is the answer to every sample, a model that says nothing
else loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphprune.ir.arrays import Doubles
from graphprune.runtime.gaps import rows_of

MOST = 64
"""Positions of a sample that are looked at."""
LEAST = 8
"""Rows from which on something may be said of them."""


def sampled(arrays: Iterable[np.ndarray | None], axis: int) -> Doubles:
    """Rows of columns [rows, columns], a few of each sample; without those that hold no number.

    Args:
        arrays: one per sample; None where there is none.
        axis: of the columns.
    """
    found = []
    for array in arrays:
        if array is None or array.ndim == 0 or array.size == 0:
            continue
        rows = rows_of(array, axis)
        at = np.unique(np.linspace(0, len(rows) - 1, MOST).astype(np.int64))
        found.append(rows[at].astype(np.float64))
    if len({each.shape[1] for each in found}) != 1:
        return np.zeros((0, 1))
    every = np.concatenate(found)
    return np.asarray(every[np.isfinite(every).all(axis=1)])


def has_one_answer(rows: Doubles) -> bool:
    """Whether the same column is the largest in every row."""
    return len(rows) >= LEAST and len(np.unique(rows.argmax(axis=1))) == 1


def move_together(rows: Doubles) -> bool:
    """Whether the mean over columns moves more than that of as many independent ones would."""
    if len(rows) < LEAST:
        return False
    return bool(rows.shape[1] * rows.mean(axis=1).var() > rows.var(axis=0).mean())
