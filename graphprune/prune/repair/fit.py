"""New weights for one Site from its moments: how much ridge, and whether to refit at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from graphprune.prune.repair.solve import DAMPING, Moments, loss, matched, offset, refit

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, np.inf)
"""Ridges that compete on held-out samples; at infinity the cut weights stay, which are the fallback."""


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
    spread = max(float(total.centred.yy[live].sum()) / max(total.count, 1.0), np.finfo(float).tiny)
    before, after = (float(loss(w, b, total)[live].sum()) / spread for w, b in ((cut, none), (found, bias)))
    return Fit(found, bias, before, after)


def solved(
    weight: Doubles, moments: Moments, keep: Mask, damping: float, biased: bool
) -> tuple[Doubles, Doubles]:
    """The refit with this ridge, about the means where a bias can take them up."""
    use = moments.centred if biased else moments
    found = np.where(keep[:, None], weight, 0.0)
    if np.isfinite(damping):
        found = refit(weight, use.xx, use.yx, keep, damping)
    return found, offset(found, moments) if biased else np.zeros(weight.shape[:2])


def choose_damping(weight: Doubles, folds: Sequence[Moments], keep: Mask, live: Mask, biased: bool) -> float:
    """The ridge whose solution on all folds but one has the least error on that one."""
    errors = np.zeros(len(DAMPINGS))
    for held in range(len(folds)):
        rest = reduce(add, (fold for number, fold in enumerate(folds) if number != held))
        for number, damping in enumerate(DAMPINGS):
            errors[number] += loss(*solved(weight, rest, keep, damping, biased), folds[held])[live].sum()
    return DAMPINGS[int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))]
