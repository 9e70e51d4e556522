"""Elimination on the side of the rows: the same losses as `Sheet`'s where rows are fewer than columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from graphprune.axes.atoms import Ids
from graphprune.prune.surgeon import CHUNK, alike

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


class RowSheet:
    """One block of a Site that reads a Group, on its way through the elimination.

    With H = (Z'Z + l I) / n the Woodbury identity turns every inverse over columns into one over rows. What
    is gone is remembered in two small matrices: M = Z_K Z_K' + l I of the columns that stay, and R = W_S Z_S'
    of those that went. Then V_P = W_P + R M^-1 Z_P are the weights of a Unit, made up for what went, and
    [H_KK^-1]_PP = n/l (I - Z_P' M^-1 Z_P).

    Args:
        matrix: W, [rows of W, columns].
        rows: Z, inputs about their mean, [rows, columns]; columns that are constant are zero.
        damping: l as a share of the mean diagonal of Z'Z.
        units, columns: parallel arrays; unit units[k] owns column columns[k]. Other columns stay.
        factor: of the costs.
    """

    def __init__(
        self, matrix: Singles, rows: Singles, damping: float, units: Ids, columns: Ids, factor: float = 1.0
    ) -> None:
        self._level = damping * float(np.square(rows, dtype=np.float64).sum()) / rows.shape[1]
        if self._level == 0:
            raise ValueError("rows that never vary, or no damping")
        self._factor = factor * self._level / (2 * len(rows))
        self._kernel = kernel(rows)
        self._kernel[np.diag_indices_from(self._kernel)] += self._level
        self._lost = np.zeros((len(matrix), len(rows)), np.float64)
        self._bundles = [_bundle(matrix, rows, names, owned) for names, owned in alike(units, columns)]

    def costs(self, size: int) -> Floats:
        """What the loss rises by with every Unit alone, [size]; zero where it owns nothing."""
        found = np.zeros(size)
        inverse = linalg.inv(self._kernel, check_finite=False)
        inverse = (inverse + inverse.T) / 2
        lost = self._lost.astype(np.float32)
        for bundle in self._bundles:
            for at in bundle.chunks():
                found[bundle.units[at]] += self._factor * bundle.costs(at, inverse, lost)
        return found

    def remove(self, units: Ids) -> None:
        """Takes the columns of these Units out; what stays makes up for them."""
        for bundle in self._bundles:
            gone = np.isin(bundle.units, units) & bundle.alive
            if gone.any():
                rows, weights = bundle.flat(gone)
                self._lost += weights @ rows.T
                wide = rows.astype(np.float64)
                self._kernel -= wide @ wide.T
                bundle.alive &= ~gone


@dataclass(eq=False)
class _Bundle:
    """Units that own equally many columns.

    Attributes:
        units: their numbers.
        rows: Z_P of each, [units, rows, columns of each].
        weights: W_P of each, [units, rows of W, columns of each].
        rest: sum of squares of what of W_P no row of Z_P sees, [units].
        alive: which are left.
    """

    units: Ids
    rows: Singles
    weights: Singles
    rest: Floats
    alive: Bools

    def chunks(self) -> Iterator[Ids]:
        """Indices of those that are left, so many at a time."""
        left = np.flatnonzero(self.alive)
        each = max(self.weights[0].size, self.rows[0].size, 1)
        step = max(1, CHUNK // each)
        for start in range(0, len(left), step):
            yield left[start : start + step]

    def costs(self, at: Ids, inverse: Floats, lost: npt.NDArray[np.float32]) -> Floats:
        """tr(V_P (I - Z_P' M^-1 Z_P)^-1 V_P') of some Units."""
        rows = self.rows[at].astype(np.float64)
        inner = inverse @ rows
        core = np.eye(rows.shape[2]) - rows.transpose(0, 2, 1) @ inner
        weights = self.weights[at] + lost @ inner.astype(np.float32)
        curved = weights @ np.linalg.inv(core).astype(weights.dtype)
        return _dots(curved, weights) + self.rest[at]

    def flat(self, which: Bools) -> tuple[Singles, Singles]:
        """Z and W of some Units side by side, [rows, columns] and [rows of W, columns]."""
        rows, weights = (part[which].transpose(1, 0, 2) for part in (self.rows, self.weights))
        return rows.reshape(len(rows), -1), weights.reshape(len(weights), -1)


def _bundle(matrix: Singles, rows: Singles, units: Ids, owned: Ids) -> _Bundle:
    """Units with as many columns each; where rows are fewer, their columns are turned into as many.

    An orthonormal basis Q of a Unit's rows leaves Z_P Z_P' and W_P Z_P' as they are. What of W_P lies outside
    of it no input ever reaches, and only the ridge counts it.
    """
    count, width = owned.shape[1], min(owned.shape[1], len(rows))
    narrow = np.empty((len(units), len(rows), width), np.float32)
    weights = np.empty((len(units), len(matrix), width), np.float32)
    rest = np.zeros(len(units))
    step = max(1, CHUNK // (count * max(len(matrix), len(rows))))
    for start in range(0, len(units), step):
        at = slice(start, start + step)
        z, w = (part[:, owned[at]].transpose(1, 0, 2) for part in (rows, matrix))
        w = w * (z != 0).any(axis=1, keepdims=True)  # a constant input costs nothing: its mean is made up for
        if width < count:
            basis = np.linalg.qr(z.astype(np.float64).transpose(0, 2, 1))[0]
            whole = _dots(w, w)
            z, w = z @ basis, w @ basis.astype(w.dtype)
            rest[at] = np.maximum(whole - _dots(w, w), 0)
        narrow[at], weights[at] = z, w
    return _Bundle(units, narrow, weights, rest, np.ones(len(units), bool))


def _dots(one: Singles, two: Singles) -> Floats:
    """tr(A' B) of every Unit."""
    found: Floats = np.multiply(one, two, dtype=np.float64).sum(axis=(1, 2))
    return found


def kernel(rows: Singles) -> Floats:
    """Z Z' in double precision, of a few columns at a time."""
    found = np.zeros((len(rows), len(rows)))
    step = max(1, CHUNK // max(1, len(rows)))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step].astype(np.float64)
        found += part @ part.T
    return found
