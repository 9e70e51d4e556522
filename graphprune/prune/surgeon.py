"""Greedy group optimal brain surgeon: what each Unit costs once those before it are gone and made up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from graphprune.ir.arrays import Doubles, Ids

STEPS = 48
"""Rounds of an elimination: wide Groups lose several Units a round, the cheapest ones."""
CHUNK = 1 << 22
"""Elements of gathered weights that are held at a time."""
DENSE = 0.75
"""Share that is left below which what is gone is not carried along any more."""


class Sheet(Protocol):
    """One block of a Site that reads a Group, on its way through the elimination."""

    def costs(self, size: int) -> Doubles:
        """What the loss rises by with every Unit alone, [size]; zero where it owns nothing."""

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""


class ColumnSheet:
    """A Sheet by the inverse of the damped second moments of its columns.

    Taking columns out of H takes their Schur complement in H^-1: a block Cholesky factorisation of H^-1 whose
    pivots are the Units that go, and of which no more is worked out than the pivots need.

    Args:
        matrix: W, [rows, columns].
        inverse: H^-1, [columns, columns]; it is used up.
        units, columns: parallel arrays; unit units[k] owns column columns[k]. Other columns stay.
    """

    def __init__(self, matrix: Doubles, inverse: Doubles, units: Ids, columns: Ids) -> None:
        self._matrix, self._inverse = np.array(matrix), inverse
        self._factor = np.empty((len(columns), len(inverse)))
        self._reached = 0
        self._left = np.ones(len(inverse), bool)
        self._bundles = [_Bundle.of(inverse, *each) for each in alike(units, columns)]

    def costs(self, size: int) -> Doubles:
        """1/2 tr(W_P ([H^-1]_PP)^-1 W_P^T) of every Unit alone, [size]; zero where it owns nothing."""
        found = np.zeros(size)
        for bundle in self._bundles:
            bundle.add_costs(found, self._matrix)
        return found

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""
        from scipy import linalg

        if np.count_nonzero(self._left) < DENSE * len(self._left):
            self._close_up()
        gone = np.concatenate([bundle.take(units) for bundle in self._bundles])
        if not len(gone):
            return
        self._left[gone] = False
        known = self._factor[: self._reached]
        across = self._inverse[gone] - known[:, gone].T @ known
        pivot = linalg.cholesky(across[:, gone], lower=True, check_finite=False)
        new = linalg.solve_triangular(pivot, across, lower=True, check_finite=False)
        given = linalg.solve_triangular(pivot, self._matrix[:, gone].T, lower=True, check_finite=False)
        self._matrix -= given.T @ new
        self._factor[self._reached : self._reached + len(gone)] = new
        self._reached += len(gone)
        for bundle in self._bundles:
            bundle.follow(new)

    def _close_up(self) -> None:
        """The columns that are left move together, within the same memory."""
        left = np.flatnonzero(self._left)
        count, places = len(left), np.cumsum(self._left) - 1
        for to, origin in enumerate(left.tolist()):
            self._inverse[to, :count] = self._inverse[origin, left]
        for row in self._factor[: self._reached]:
            row[:count] = row[left]
        self._inverse, self._factor = self._inverse[:count, :count], self._factor[:, :count]
        self._matrix, self._left = self._matrix[:, left], self._left[left]
        for bundle in self._bundles:
            bundle.owned = places[bundle.owned]


@dataclass(eq=False)
class _Bundle:
    """Units that own equally many columns, and are left.

    Attributes:
        units: their numbers.
        owned: columns of each, [units, columns of each].
        cores: [H^-1]_PP of each, without what is gone, [units, columns of each, columns of each].
    """

    units: Ids
    owned: Ids
    cores: Doubles

    @staticmethod
    def of(inverse: Doubles, units: Ids, owned: Ids) -> _Bundle:
        """All of them."""
        return _Bundle(units, owned, inverse[owned[:, :, None], owned[:, None]])

    def add_costs(self, found: Doubles, matrix: Doubles) -> None:
        """Adds what each costs."""
        step = max(1, CHUNK // (self.owned.shape[1] * len(matrix)))
        for start in range(0, len(self.units), step):
            at = slice(start, start + step)
            weights = matrix[:, self.owned[at]].transpose(1, 0, 2)
            square = weights.transpose(0, 2, 1) @ weights
            found[self.units[at]] += 0.5 * np.einsum("upq,upq->u", np.linalg.inv(self.cores[at]), square)

    def take(self, units: Ids) -> Ids:
        """The columns of these Units, which are left no more."""
        gone = np.isin(self.units, units)
        found = self.owned[gone].ravel()
        self.units, self.owned, self.cores = self.units[~gone], self.owned[~gone], self.cores[~gone]
        return found

    def follow(self, new: Doubles) -> None:
        """The factor has these rows more."""
        step = max(1, CHUNK // (self.owned.shape[1] * max(1, len(new))))
        for start in range(0, len(self.units), step):
            at = slice(start, start + step)
            part = new[:, self.owned[at]].transpose(1, 0, 2)
            self.cores[at] -= part.transpose(0, 2, 1) @ part


def eliminate(sheets: Sequence[Sheet], size: int) -> Doubles:
    """What is lost with each Unit, in the order in which the cheapest goes next.

    The scores up to any Unit sum to the loss of removing all of them, each Site refitted by least squares
    (OBC, arXiv 2208.11580, on groups of columns; the greedy order as in ZipLM, arXiv 2302.04089).

    Args:
        sheets: the Sites that read the Group, block by block; they are used up.
        size: Units of the Group.

    Returns:
        [size], rising in the order of removal.
    """
    scores = np.zeros(size)
    left = np.ones(size, bool)
    reached, batch = 0.0, max(1, size // STEPS)
    while left.any():
        costs = np.where(left, sum((sheet.costs(size) for sheet in sheets), np.zeros(size)), np.inf)
        units = np.argsort(costs, kind="stable")[: min(batch, int(left.sum()))]
        for unit in units.tolist():
            reached = float(np.nextafter(max(reached, float(costs[unit])), np.inf))
            scores[unit] = reached
        left[units] = False
        if left.any():
            for sheet in sheets:
                sheet.remove(units)
    return scores


def alike(units: Ids, columns: Ids) -> list[tuple[Ids, Ids]]:
    """(units, [units, columns of each]) for Units that own equally many columns."""
    order = np.lexsort((columns, units))
    names, counts = np.unique(units, return_counts=True)
    parts = np.split(columns[order], np.cumsum(counts)[:-1])
    return [
        (names[counts == count], np.stack([part for part in parts if len(part) == count]))
        for count in np.unique(counts)
    ]
