"""Elimination on the side of the rows: the same losses as `Sheet`'s where rows are fewer than columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from graphprune.ir.arrays import Array, Bools, Doubles, Floats, Ids
from graphprune.prune import shrink
from graphprune.prune.surgeon import CHUNK, alike

PIECE = 1 << 20
"""Elements of weights that are worked on at a time: they stay where the processor has them at hand."""
DENSE = 0.75
"""Share of Units that are left below which the others are not carried along any more."""


class RowSheet:
    """One block of a Site that reads a Group, on its way through the elimination.

    With H = (Z'Z + l I) / n the Woodbury identity turns every inverse over columns into one over rows. With
    M = Z_K Z_K' + l I of the columns that stay and R = W_S Z_S' of those that went, V_P = W_P + R M^-1 Z_P
    are the weights of a Unit, made up for what went, and [H_KK^-1]_PP = n/l (I - Z_P' M^-1 Z_P). Costs read
    no more than V_P' V_P, so that of R only W_P' R and R' R are kept.

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
        self._kernel = kernel(rows)
        share = _damping(self._kernel, rows) if damping is None else damping
        level = share * float(np.trace(self._kernel)) / rows.shape[1]
        if level == 0:
            raise ValueError("rows that never vary, or no damping")
        self._factor = factor * level / (2 * len(rows))
        self._kernel[np.diag_indices_from(self._kernel)] += level
        self._lost = np.zeros((len(rows), len(rows)))
        self._bundles = [_bundle(matrix, rows, names, owned) for names, owned in alike(units, columns)]

    def costs(self, size: int) -> Doubles:
        """What the loss rises by with every Unit alone, [size]; zero where it owns nothing."""
        found = np.zeros(size)
        inverse = linalg.inv(self._kernel, check_finite=False)
        inverse = (inverse + inverse.T) / 2
        for bundle in self._bundles:
            for at in bundle.chunks():
                found[bundle.units[at]] += self._factor * bundle.costs(at, inverse, self._lost)
        return found

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""
        gone = [np.flatnonzero(np.isin(each.units, units) & each.alive) for each in self._bundles]
        parts = [each.flat(at) for each, at in zip(self._bundles, gone, strict=True) if len(at)]
        if not parts:
            return
        rows, crosses, weights = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
        wide = rows.astype(np.float64)
        self._kernel -= wide @ wide.T
        moved = wide @ crosses.T
        self._lost += moved + moved.T + wide @ (weights.T @ weights) @ wide.T
        change = weights @ rows.T
        for bundle, at in zip(self._bundles, gone, strict=True):
            bundle.alive[at] = False
            bundle.follow(change)


@dataclass(eq=False)
class _Bundle:
    """Units that own equally many columns.

    Attributes:
        units: their numbers.
        rows: Z_P of each, [units, rows, columns of each].
        weights: W_P' of each, [units, columns of each, rows of W]: one product serves all Units.
        products: W_P' W_P, [units, columns of each, columns of each].
        crosses: W_P' R, [units, columns of each, rows].
        rest: sum of squares of what of W_P no row of Z_P sees, [units].
        alive: which are left.
    """

    units: Ids
    rows: Floats
    weights: Floats
    products: Floats
    crosses: Floats
    rest: Doubles
    alive: Bools

    def chunks(self) -> Iterator[Ids]:
        """Indices of those that are left, so many at a time."""
        left = np.flatnonzero(self.alive)
        width, height = self.weights.shape[1:]
        step = max(1, PIECE // max(width * max(height, self.rows.shape[1]), 1))
        for start in range(0, len(left), step):
            yield left[start : start + step]

    def costs(self, at: Ids, inverse: Doubles, lost: Doubles) -> Doubles:
        """tr(V_P (I - Z_P' M^-1 Z_P)^-1 V_P') of some Units."""
        rows = self.rows[at].astype(np.float64)
        inner = inverse @ rows
        across = inner.transpose(0, 2, 1)
        core = np.eye(rows.shape[2]) - rows.transpose(0, 2, 1) @ inner
        moved = self.crosses[at] @ inner
        square = self.products[at] + moved + moved.transpose(0, 2, 1) + across @ (lost @ inner)
        return _dots(np.linalg.inv(core), square) + self.rest[at]

    def flat(self, at: Ids) -> tuple[Floats, Floats, Floats]:
        """Z, (W' R)' and W of some Units side by side: [rows, columns] twice, [rows of W, columns]."""
        rows = self.rows[at].transpose(1, 0, 2)
        crosses, weights = (part[at].transpose(2, 0, 1) for part in (self.crosses, self.weights))
        return (
            rows.reshape(len(rows), -1),
            crosses.reshape(len(crosses), -1),
            weights.reshape(len(weights), -1),
        )

    def follow(self, change: Floats) -> None:
        """R has changed by this."""
        if np.count_nonzero(self.alive) < DENSE * len(self.alive):
            self._close_up()
        count, width, height = self.weights.shape
        step = max(1, PIECE // max(width * height, 1))
        for start in range(0, count, step):
            at = slice(start, start + step)
            moved = self.weights[at].reshape(-1, height) @ change
            self.crosses[at] += moved.reshape(-1, width, change.shape[1])

    def _close_up(self) -> None:
        """Those that are left move together, within the same memory."""
        left = np.flatnonzero(self.alive)

        def close_up(part: Array) -> None:
            for to, origin in enumerate(left.tolist()):
                part[to] = part[origin]

        for part in (self.units, self.rows, self.weights, self.products, self.crosses, self.rest):
            close_up(part)
        few = slice(len(left))
        self.units, self.rows, self.weights = self.units[few], self.rows[few], self.weights[few]
        self.products, self.crosses, self.rest = self.products[few], self.crosses[few], self.rest[few]
        self.alive = np.ones(len(left), bool)


def _bundle(matrix: Floats, rows: Floats, units: Ids, owned: Ids) -> _Bundle:
    """Units with as many columns each; where rows are fewer, their columns are turned into as many.

    An orthonormal basis Q of a Unit's rows leaves Z_P Z_P' and W_P Z_P' as they are. What of W_P lies outside
    of it no input ever reaches, and only the ridge counts it.
    """
    count, width = owned.shape[1], min(owned.shape[1], len(rows))
    found = _Bundle(
        units,
        np.empty((len(units), len(rows), width), np.float32),
        np.empty((len(units), width, len(matrix)), np.float32),
        np.empty((len(units), width, width), np.float32),
        np.zeros((len(units), width, len(rows)), np.float32),
        np.zeros(len(units)),
        np.ones(len(units), bool),
    )
    step = max(1, PIECE // (count * max(len(matrix), len(rows))))
    for start in range(0, len(units), step):
        at = slice(start, start + step)
        z, w = (part[:, owned[at]].transpose(1, 0, 2) for part in (rows, matrix))
        w = w * (z != 0).any(axis=1, keepdims=True)  # a constant input costs nothing: its mean is made up for
        if width < count:
            basis = np.linalg.qr(z.astype(np.float64).transpose(0, 2, 1))[0]
            whole = _dots(w, w)
            z, w = z @ basis, w @ basis.astype(w.dtype)
            found.rest[at] = np.maximum(whole - _dots(w, w), 0)
        found.rows[at], found.weights[at] = z, w.transpose(0, 2, 1)
        found.products[at] = w.transpose(0, 2, 1) @ w
    return found


def _dots(one: Floats, two: Floats) -> Doubles:
    """tr(A' B) of every Unit."""
    found: Doubles = np.einsum("urp,urp->ur", one, two).sum(axis=1, dtype=np.float64)
    return found


def _damping(products: Doubles, rows: Floats) -> float:
    """As of second moments over columns: Z Z' has their trace, and that of their square."""
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
