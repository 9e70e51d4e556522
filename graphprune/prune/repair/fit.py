"""New weights for one Site from its moments: how much ridge, and whether to refit at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from graphprune.prune.repair.solve import DAMPING, Moments, loss, matched, offset, refit

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DAMPINGS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Ridges that compete on held-out samples. Stronger ones win there now and then, but cost accuracy: what they
leave uncorrected is the same for all samples, and adds up over the Sites."""
ROWS = 128


@dataclass(frozen=True)
class Fit:
    """The part of a weight that was solved for, and the bias that goes with it.

    Attributes:
        weight: [blocks, rows, columns].
        bias: what is added to the dense bias, [blocks, rows].
        before, after: mean squared error on the calibration data, as shares of the variance.
    """

    weight: Doubles
    bias: Doubles
    before: float
    after: float

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        return bool(np.isfinite(self.weight).all() and np.isfinite(self.bias).all())


def fit(
    weight: Doubles, folds: Sequence[Moments], keep: Mask, live: Mask, how: frozenset[str], biased: bool
) -> Fit:
    """Solve for a weight as `how` says: any of refit, bias and match.

    Args:
        weight: dense W, kept rows and columns.
        folds: moments of disjoint samples; the ridge is chosen by what helps the others.
        keep: columns that stay, [blocks, columns].
        live: rows that stay, [blocks, rows].
        how: names of methods.
        biased: whether a bias may be added.
    """
    total = reduce(add, folds)
    cut = np.where(keep[:, None], weight, 0.0)
    none = np.zeros(weight.shape[:2])
    found, bias = cut, offset(cut, total) if biased else none
    if "refit" in how:
        damping = choose_damping(weight, folds, keep, live, biased) if len(folds) > 1 else DAMPING
        found, bias = solved(weight, total, keep, damping, biased)
    if "match" in how:
        found, shifted = matched(found, total)
        bias = shifted if biased else none
    spread = max(float(total.yy[live].sum()) / max(total.count, 1.0), np.finfo(float).tiny)
    before, after = (float(loss(w, b, total)[live].sum()) / spread for w, b in ((cut, none), (found, bias)))
    if "match" not in how and not after <= before:  # rounding, or numbers that are not finite
        return Fit(cut, none, before, before)
    return Fit(found, bias, before, after)


def solved(
    weight: Doubles, moments: Moments, keep: Mask, damping: float, biased: bool
) -> tuple[Doubles, Doubles]:
    """The refit with this ridge, about the means where a bias can take them up."""
    use = moments if biased else moments.raw
    found = refit(weight, use.xx, use.yx, keep, damping)
    return found, offset(found, moments) if biased else np.zeros(weight.shape[:2])


def choose_damping(weight: Doubles, folds: Sequence[Moments], keep: Mask, live: Mask, biased: bool) -> float:
    """The ridge whose solution on all folds but one has the least error on that one."""
    weight, folds, live = _some_rows(weight, folds, live)
    errors = np.zeros(len(DAMPINGS))
    for held in range(len(folds)):
        rest = reduce(add, (fold for number, fold in enumerate(folds) if number != held))
        for number, damping in enumerate(DAMPINGS):
            errors[number] += loss(*solved(weight, rest, keep, damping, biased), folds[held])[live].sum()
    return DAMPINGS[int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))]


def _some_rows(
    weight: Doubles, folds: Sequence[Moments], live: Mask
) -> tuple[Doubles, Sequence[Moments], Mask]:
    """A few rows are enough to choose by, and most of the work goes with their number."""
    count = weight.shape[1]
    if weight.shape[0] > 1 or count <= ROWS:
        return weight, folds, live
    rows = np.linspace(0, count - 1, ROWS).astype(np.int64)
    return weight[:, rows], [_of_rows(fold, rows) for fold in folds], live[:, rows]


def _of_rows(moments: Moments, rows: npt.NDArray[np.int64]) -> Moments:
    return replace(moments, y=moments.y[:, rows], yx=moments.yx[:, rows], yy=moments.yy[:, rows])
