"""Elimination on the side of the rows: the losses of `ColumnSheet`, where rows are fewer than columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Array, Bools, Doubles, Floats, Ids
from graphprune.prune import shrink
from graphprune.prune.surgeon import CHUNK, DENSE, alike

PIECE = 1 << 20
"""Elements of weights that are worked on at a time: they stay where the processor has them at hand."""


class RowSheet:
    """One block of a Site that reads a Group, on its way through the elimination.

    With H = (Z'Z + l I) / n the Woodbury identity turns every inverse over columns into one over rows: with
    M = Z_K Z_K' + l I of the columns K that are left, [H_KK^-1]_PQ = n/l ([P = Q] - Z_P' M^-1 Z_Q). When
    columns S go, C = I - Z_S' M^-1 Z_S = L L' says all that changes. With F = M^-1 Z_S L^-T, of no higher
    rank than there are columns in S, or rows:

        M^-1 <- M^-1 + F F'    Z_P' M^-1 Z_P <- Z_P' M^-1 Z_P + Y'Y    V_P <- V_P + V_S L^-T Y    Y = F' Z_P

    so that no step costs more than its rank times the inputs and the weights that are left.

    Args:
        matrix: W, [rows of W, columns].
        rows: Z, inputs about their mean, [rows, columns]; columns that are constant are zero.
        damping: l as a share of the mean diagonal of Z'Z; None for what so few rows are good for.
        units, columns: parallel arrays; unit units[k] owns column columns[k]. Other columns stay.
        factor: of the costs.
    """

    def __init__(
        self,
        matrix: Floats,
        rows: Floats,
        damping: float | None,
        units: Ids,
        columns: Ids,
        factor: float = 1.0,
    ) -> None:
        inner = kernel(rows)
        share = _damping(inner, rows) if damping is None else damping
        level = share * float(np.trace(inner)) / rows.shape[1]
        if level == 0:
            raise ValueError("rows that never vary, or no damping")
        self._factor = factor * level / (2 * len(rows))
        inner[np.diag_indices_from(inner)] += level
        self._inverse = shrink.inverse(inner)
        self._bundles = [
            _bundle(matrix, rows, self._inverse, names, owned) for names, owned in alike(units, columns)
        ]

    def costs(self, size: int) -> Doubles:
        """What the loss rises by with every Unit alone, [size]; zero where it owns nothing."""
        found = np.zeros(size)
        for bundle in self._bundles:
            for at in bundle.chunks():
                found[bundle.units[at]] += self._factor * bundle.costs(at)
        return found

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""
        from scipy import linalg

        parts = [bundle.take(units) for bundle in self._bundles]
        rows, weights = (np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True))
        if not len(rows):
            return
        if len(rows) > rows.shape[1]:
            basis = np.linalg.qr(rows)[0]
            rows, weights = basis.T @ rows, basis.T @ weights
        across = rows @ self._inverse
        core = np.eye(len(rows)) - across @ rows.T
        pivot = linalg.cholesky((core + core.T) / 2, lower=True, check_finite=False)
        change = linalg.solve_triangular(pivot, across, lower=True, check_finite=False)
        given = linalg.solve_triangular(pivot, weights, lower=True, check_finite=False)
        self._inverse += change.T @ change
        for bundle in self._bundles:
            bundle.follow(change, given)


@dataclass(eq=False)
class _Bundle:
    """Units that own equally many columns.

    Attributes:
        units: their numbers.
        rows: Z_P' of each, [units, columns of each, rows].
        weights: V_P' of each, made up for what is gone, [units, columns of each, rows of W].
        products: V_P' V_P, [units, columns of each, columns of each].
        cores: I - Z_P' M^-1 Z_P, [units, columns of each, columns of each].
        rest: sum of squares of what of W_P no row of Z_P sees, [units].
        alive: which are left.
    """

    units: Ids
    rows: Floats
    weights: Floats
    products: Floats
    cores: Doubles
    rest: Doubles
    alive: Bools

    def chunks(self) -> Iterator[Ids]:
        """Indices of those that are left, so many at a time."""
        left, step = np.flatnonzero(self.alive), self._step
        for start in range(0, len(left), step):
            yield left[start : start + step]

    @property
    def _step(self) -> int:
        _, width, height = self.weights.shape
        return max(1, PIECE // max(int(width * max(height, self.rows.shape[2])), 1))

    def costs(self, at: Ids) -> Doubles:
        """tr(V_P (I - Z_P' M^-1 Z_P)^-1 V_P') of some Units."""
        return _dots(np.linalg.inv(self.cores[at]), self.products[at]) + self.rest[at]

    def take(self, units: Ids) -> tuple[Floats, Floats]:
        """Z' and V' of these Units, which are left no more, below each other."""
        gone = np.isin(self.units, units) & self.alive
        self.alive &= ~gone
        rows, weights = self.rows[gone], self.weights[gone]
        return rows.reshape(-1, rows.shape[2]), weights.reshape(-1, weights.shape[2])

    def follow(self, change: Doubles, given: Doubles) -> None:
        """Columns are gone: F' is `change`, and L^-1 V_S' is `given`."""
        if np.count_nonzero(self.alive) < DENSE * len(self.alive):
            self._close_up()
        short = given.astype(self.weights.dtype)
        for start in range(0, len(self.units), self._step):
            at = slice(start, start + self._step)
            rows, weights = self.rows[at], self.weights[at]
            seen = rows.reshape(-1, rows.shape[2]).astype(np.float64) @ change.T
            each = seen.reshape(len(rows), -1, len(change))
            self.cores[at] -= each @ each.transpose(0, 2, 1)
            weights += (seen.astype(short.dtype) @ short).reshape(weights.shape)
            self.products[at] = weights @ weights.transpose(0, 2, 1)

    def _close_up(self) -> None:
        """Those that are left move together, within the same memory."""
        left = np.flatnonzero(self.alive)

        def close_up(part: Array) -> None:
            for to, origin in enumerate(left.tolist()):
                part[to] = part[origin]

        for part in (self.units, self.rows, self.weights, self.products, self.cores, self.rest):
            close_up(part)
        few = slice(len(left))
        self.units, self.rows, self.weights = self.units[few], self.rows[few], self.weights[few]
        self.products, self.cores, self.rest = self.products[few], self.cores[few], self.rest[few]
        self.alive = np.ones(len(left), bool)


def _bundle(matrix: Floats, rows: Floats, inverse: Doubles, units: Ids, owned: Ids) -> _Bundle:
    """Units with as many columns each; where rows are fewer, their columns are turned into as many.

    An orthonormal basis Q of a Unit's rows leaves Z_P Z_P' and W_P Z_P' as they are. What of W_P lies outside
    of it no input ever reaches, and only the ridge counts it.
    """
    count, width = owned.shape[1], min(owned.shape[1], len(rows))
    found = _Bundle(
        units,
        np.empty((len(units), width, len(rows)), np.float32),
        np.empty((len(units), width, len(matrix)), np.float32),
        np.empty((len(units), width, width), np.float32),
        np.empty((len(units), width, width)),
        np.zeros(len(units)),
        np.ones(len(units), bool),
    )
    step = max(1, PIECE // (count * max(len(matrix), len(rows))))
    for start in range(0, len(units), step):
        at = slice(start, start + step)
        z, w = (part[:, owned[at]].transpose(1, 2, 0) for part in (rows, matrix))
        w = w * (z != 0).any(axis=2, keepdims=True)  # a constant input costs nothing: its mean is made up for
        if width < count:
            basis = np.linalg.qr(z.astype(np.float64))[0].transpose(0, 2, 1)
            whole = _dots(w, w)
            z, w = basis @ z, basis.astype(w.dtype) @ w
            found.rest[at] = np.maximum(whole - _dots(w, w), 0)
        found.rows[at], found.weights[at] = z, w
        found.products[at] = w @ w.transpose(0, 2, 1)
        wide = found.rows[at].astype(np.float64)
        across = (wide.reshape(-1, len(rows)) @ inverse).reshape(wide.shape)
        found.cores[at] = np.eye(width) - across @ wide.transpose(0, 2, 1)
    return found


def _dots(one: Floats, two: Floats) -> Doubles:
    """tr(A' B) of every Unit."""
    found: Doubles = np.einsum("urp,urp->ur", one, two).sum(axis=1, dtype=np.float64)
    return found


def _damping(products: Doubles, rows: Floats) -> float:
    """As of second moments over columns: Z Z' have their trace, and that of their square."""
    count, columns = len(rows), int(np.count_nonzero((rows != 0).any(axis=0)))
    trace, squares = float(np.trace(products)), float(np.vdot(products, products))
    return shrink.damping(count, columns, trace / count, squares / count**2)


def kernel(rows: Floats) -> Doubles:
    """Z Z' in double precision, of a few columns at a time."""
    found = np.zeros((len(rows), len(rows)))
    step = max(1, CHUNK // max(1, len(rows)))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step].astype(np.float64)
        found += part @ part.T
    return found
