"""Greedy group optimal brain surgeon: what each Unit costs once those before it are gone and made up for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from graphprune.axes.atoms import Ids

Floats = npt.NDArray[np.float64]
STEPS = 48
"""Rounds of an elimination: wide Groups lose several Units a round, the cheapest ones."""
CHUNK = 1 << 22
"""Elements of gathered weights that are held at a time."""


class Sheet(Protocol):
    """One block of a Site that reads a Group, on its way through the elimination."""

    def costs(self, size: int) -> Floats:
        """What the loss rises by with every Unit alone, [size]; zero where it owns nothing."""

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""


class ColumnSheet:
    """A Sheet by the inverse of the second moments of its columns.

    Args:
        matrix: W, [rows, columns].
        inverse: of the damped second moments of the columns, [columns, columns].
        units, columns: parallel arrays; unit units[k] owns column columns[k]. Other columns stay.
    """

    def __init__(self, matrix: Floats, inverse: Floats, units: Ids, columns: Ids) -> None:
        self.matrix, self.inverse = matrix, inverse
        self.owner = np.full(matrix.shape[1], -1)
        self.owner[columns] = units

    def costs(self, size: int) -> Floats:
        """1/2 tr(W_P ([H^-1]_PP)^-1 W_P^T) of every Unit alone, [size]; zero where it owns nothing."""
        found = np.zeros(size)
        columns = np.flatnonzero(self.owner >= 0)
        for units, owned in alike(self.owner[columns], columns):
            found[units] += removal_cost(self.matrix, self.inverse, owned)
        return found

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""
        gone = np.isin(self.owner, units)
        if not gone.any():
            return
        kept = ~gone
        across = self.inverse[np.ix_(gone, kept)]
        given = np.linalg.solve(self.inverse[np.ix_(gone, gone)], across)
        self.matrix = self.matrix[:, kept] - self.matrix[:, gone] @ given
        self.inverse = self.inverse[np.ix_(kept, kept)] - across.T @ given
        self.owner = self.owner[kept]


def eliminate(sheets: Sequence[Sheet], size: int) -> Floats:
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


def removal_cost(matrix: Floats, inverse: Floats, owned: Ids) -> Floats:
    """The optimal-brain-surgeon cost of each set of columns; `owned` is [sets, columns of a set]."""
    if owned.shape[1] == 1:
        columns = owned[:, 0]
        squares = np.square(matrix[:, columns]).sum(axis=0)
        return np.asarray(0.5 * squares / np.diagonal(inverse)[columns])
    costs = np.empty(len(owned))
    step = max(1, CHUNK // (owned.shape[1] * len(matrix)))
    for start in range(0, len(owned), step):
        part = owned[start : start + step]
        curvature = np.linalg.inv(inverse[part[:, :, None], part[:, None, :]])
        weights = matrix[:, part].transpose(1, 0, 2)
        costs[start : start + step] = 0.5 * np.einsum(
            "uop,upq,uoq->u", weights, curvature, weights, optimize=True
        )
    return costs


def alike(units: Ids, columns: Ids) -> list[tuple[Ids, Ids]]:
    """(units, [units, columns of each]) for Units that own equally many columns."""
    order = np.lexsort((columns, units))
    names, counts = np.unique(units, return_counts=True)
    parts = np.split(columns[order], np.cumsum(counts)[:-1])
    return [
        (names[counts == count], np.stack([part for part in parts if len(part) == count]))
        for count in np.unique(counts)
    ]
