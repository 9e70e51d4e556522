"""New weights for one Site from what is known of it: how much ridge, and whether to refit at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeVar

import numpy as np

from graphprune.ir.arrays import Array, Bools, Doubles, Floats
from graphprune.prune.repair.solve import DAMPING, Seen, matched

Known = TypeVar("Known", bound=Seen)

DAMPINGS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Ridges that compete on held-out samples. Stronger ones win there now and then, but cost accuracy: what they
leave uncorrected is the same for all samples, and adds up over the Sites."""
ROWS, WIDE = 64, 256


@dataclass(frozen=True)
class Fit:
    """The part of a weight that was solved for, and the bias that goes with it.

    Attributes:
        weight: [blocks, rows, columns].
        bias: what is added to the dense bias, [blocks, rows].
        before, after: mean squared error on the calibration data, as shares of the variance.
        damping: the ridge, as a share of the mean of the kept diagonal.
    """

    weight: Floats
    bias: Doubles
    before: float
    after: float
    damping: float = DAMPING

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        return all_finite(self.weight, self.bias)


def all_finite(*arrays: Array) -> bool:
    """Whether every number is one, without as many bytes that say so of each."""
    with np.errstate(invalid="ignore"):
        return all(bool(np.isfinite(array.sum(dtype=np.float64))) for array in arrays)


def fit(
    weight: Floats, folds: Sequence[Known], keep: Bools, live: Bools, how: frozenset[str], biased: bool
) -> Fit:
    """Solve for a weight as `how` says: any of refit, bias and match.

    Args:
        weight: dense W, kept rows and columns.
        folds: what is known of disjoint samples; the ridge is chosen by what helps the others.
        keep: columns that stay, [blocks, columns].
        live: rows that stay, [blocks, rows].
        how: names of methods.
        biased: whether a bias may be added.
    """
    total = reduce(add, folds)
    cut = weight if keep.all() else weight * keep[:, None]
    none = np.zeros(weight.shape[:2])
    found, bias = cut, total.offset(cut) if biased else none
    damping = DAMPING
    if "refit" in how:
        damping = choose_damping(weight, folds, keep, live, biased) if len(folds) > 1 else DAMPING
        ((found, bias),) = solved(weight, total, keep, (damping,), biased)
    if "match" in how:
        found, shifted = matched(found, total)
        bias = shifted if biased else none
    spread = max(float(total.variance[live].sum()), float(np.finfo(float).tiny))
    before, after = (float(total.loss(w, b)[live].sum()) / spread for w, b in ((cut, none), (found, bias)))
    if "match" not in how and not after <= before:  # rounding, or numbers that are not finite
        return Fit(cut, none, before, before)
    return Fit(found, bias, before, after, damping)


def solved(
    weight: Floats, seen: Seen, keep: Bools, dampings: Sequence[float], biased: bool
) -> Iterator[tuple[Floats, Doubles]]:
    """The refit with each of these ridges, and the bias that restores the means where there may be one."""
    for found in seen.refits(weight, keep, dampings, biased):
        yield found, seen.offset(found) if biased else np.zeros(weight.shape[:2])


def choose_damping(weight: Floats, folds: Sequence[Known], keep: Bools, live: Bools, biased: bool) -> float:
    """The ridge whose solution on all folds but one has the least error on that one, each in its turn.

    Where columns are many a solution is dear, and one fold that is held out tells as much.
    """
    weight, folds, live = _some_rows(weight, folds, live)
    errors = np.zeros(len(DAMPINGS))
    for held in range(1 if weight.shape[2] > WIDE else len(folds)):
        rest = reduce(add, (fold for number, fold in enumerate(folds) if number != held))
        for number, (found, bias) in enumerate(solved(weight, rest, keep, DAMPINGS, biased)):
            errors[number] += folds[held].loss(found, bias)[live].sum()
    return DAMPINGS[int(np.argmin(np.where(np.isfinite(errors), errors, np.inf)))]


def _some_rows(weight: Floats, folds: Sequence[Known], live: Bools) -> tuple[Floats, Sequence[Known], Bools]:
    """A few rows are enough to choose by, and most of the work goes with their number."""
    count = weight.shape[1]
    if weight.shape[0] > 1 or count <= ROWS:
        return weight, folds, live
    rows = np.linspace(0, count - 1, ROWS).astype(np.int64)
    return weight[:, rows], [fold.some(rows) for fold in folds], live[:, rows]
