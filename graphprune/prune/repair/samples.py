"""Least squares on the rows themselves, where they are fewer than the columns: the dual of `solve`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from scipy import linalg

from graphprune.ir.arrays import Bools, Doubles, Floats, Ids
from graphprune.prune.repair.solve import Moments, Seen, observed, ridge
from graphprune.statistics.rows import CHUNK_ELEMENTS


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs x of a Site and the results y that it should give, row by row.

    Attributes:
        x: [blocks, samples, columns].
        y: [blocks, samples, rows].
    """

    x: Floats
    y: Floats

    def __add__(self, other: Samples) -> Samples:
        x: Floats = np.concatenate((self.x, other.x), axis=1)
        y: Floats = np.concatenate((self.y, other.y), axis=1)
        return Samples(x, y)

    @property
    def count(self) -> int:
        """How many samples there are."""
        return int(self.x.shape[1])

    @property
    def finite(self) -> bool:
        """Whether all samples are numbers."""
        return bool(np.isfinite(self.x.sum()) and np.isfinite(self.y.sum()))

    @property
    def varies(self) -> bool:
        """Whether any input does."""
        return bool((self.x != self.x[:, :1]).any())

    @property
    def variance(self) -> Doubles:
        """Mean squares of y about its mean, [blocks, rows]."""
        return _variance(self.y)

    def some(self, rows: Ids) -> Samples:
        """The same for some rows of W."""
        return Samples(self.x, self.y[:, :, rows])

    def refits(
        self, weight: Floats, keep: Bools, dampings: Sequence[float], biased: bool
    ) -> Iterator[Floats]:
        """The refit of `solve` with each of these ridges.

        V = W + (Y - X W')' (X X' + l I)^-1 X: the push-through identity moves the inverse to the side of the
        rows; a few columns at a time are held in double precision.
        """
        means = self._means(self.x, biased)
        parts = [(block, _kernel(self.x[block], means[block], keep[block])) for block in range(len(self.x))]
        missing = self._missing(weight if keep.all() else weight * keep[:, None], biased)
        for damping in dampings:
            found = weight * keep[:, None]
            for block, (inner, diagonal) in parts:
                level = ridge(diagonal[keep[block]], damping)
                solved = _solved(inner, level, missing[block])
                _add_across(found[block], solved, self.x[block], means[block], keep[block])
            yield found

    def offset(self, weight: Floats) -> Doubles:
        """The bias with which a weight gives the wanted results on average, [blocks, rows]."""
        mean = self.x.mean(axis=1, dtype=np.float64)
        given = np.matmul(weight, mean[:, :, None].astype(weight.dtype))[:, :, 0]
        return np.asarray(self.y.mean(axis=1, dtype=np.float64) - given)

    def loss(self, weight: Floats, bias: Doubles) -> Doubles:
        """Mean squared difference to the wanted results, [blocks, rows]."""
        return _variance(self._given(weight) - self.y) + (self.offset(weight) - bias) ** 2

    def spread(self, weight: Floats) -> Doubles:
        """Mean squares of what a weight gives, about its mean, [blocks, rows]."""
        return _variance(self._given(weight))

    def metric(self, block: int, columns: slice, biased: bool) -> Doubles:
        """Sum of x x' over some columns of a block, about the mean where a bias takes it up."""
        about = self.about(block, biased, columns)
        return np.asarray(about.T @ about)

    def about(self, block: int, biased: bool, columns: slice = slice(None)) -> Doubles:
        """Inputs of a block, about their mean where a bias takes it up."""
        x = self.x[block][:, columns].astype(np.float64)
        return np.asarray(x - x.mean(axis=0) if biased else x)

    def _given(self, weight: Floats) -> Floats:
        """W x about its mean."""
        about = self.x - self._means(self.x, True)[:, None]
        return np.asarray(np.matmul(about, weight.transpose(0, 2, 1)))

    def _missing(self, weight: Floats, biased: bool) -> Doubles:
        """Y - W x about the means, or about zero, [blocks, samples, rows]."""
        about = self.x - self._means(self.x, biased)[:, None]
        wanted = self.y - self._means(self.y, biased)[:, None]
        return np.asarray(wanted - np.matmul(about, weight.transpose(0, 2, 1)), np.float64)

    @staticmethod
    def _means(array: Floats, biased: bool) -> Floats:
        mean = array.mean(axis=1, dtype=np.float64)
        found: Floats = (mean if biased else np.zeros_like(mean)).astype(array.dtype)
        return found


def pooled(parts: Sequence[Seen]) -> Seen:
    """What several readers of a weight say together."""
    rows = [part for part in parts if isinstance(part, Samples)]
    if len(rows) == len(parts):
        return reduce(add, rows)
    sums = [part for part in parts if isinstance(part, Moments)]
    return reduce(add, [*sums, *(observed(part.x, part.y) for part in rows)])


def _variance(array: Floats) -> Doubles:
    """[blocks, samples, n] to [blocks, n]."""
    return np.asarray(np.var(array, axis=1, dtype=np.float64))


def _parts(x: Floats, mean: Floats, keep: Bools) -> Iterator[tuple[slice, Doubles]]:
    """Some columns at a time of one block, less their means; zero where they are gone."""
    step = max(1, CHUNK_ELEMENTS // max(1, len(x)))
    for start in range(0, x.shape[1], step):
        at = slice(start, start + step)
        yield at, (x[:, at].astype(np.float64) - mean[at]) * keep[at]


def _kernel(x: Floats, mean: Floats, keep: Bools) -> tuple[Doubles, Doubles]:
    """X X' of one block, and the diagonal of X' X."""
    inner, diagonal = np.zeros((len(x), len(x))), np.zeros(x.shape[1])
    for at, part in _parts(x, mean, keep):
        inner += part @ part.T
        diagonal[at] = np.einsum("nc,nc->c", part, part)
    return inner, diagonal


def _solved(inner: Doubles, level: float, missing: Doubles) -> Doubles:
    """(X X' + l I)^-1 times what is missing, [samples, rows]."""
    damped = inner.copy()
    damped[np.diag_indices_from(damped)] += level
    return np.asarray(linalg.solve(damped, missing, assume_a="pos", check_finite=False))


def _add_across(found: Floats, solved: Doubles, x: Floats, mean: Floats, keep: Bools) -> None:
    """Found += solved' X; in double precision, since large terms cancel here."""
    for at, part in _parts(x, mean, keep):
        step = max(1, CHUNK_ELEMENTS // part.shape[1])
        for start in range(0, len(found), step):
            rows = slice(start, start + step)
            found[rows, at] += solved[:, rows].T @ part
