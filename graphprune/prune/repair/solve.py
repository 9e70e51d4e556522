"""Least squares on moments: the weights that reproduce a Site's dense results from what a cut leaves.

Everything is batched over blocks (groups of a convolution) and in double precision. y = W x is the result
without any bias; what is returned as a bias is added to the one that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from scipy import linalg

from graphprune.ir.arrays import Bools, Doubles, Floats, Ids
from graphprune.statistics.measures import between
from graphprune.statistics.rows import about_mean

DAMPING = 0.01


class Seen(Protocol):
    """What is known of the inputs x of a Site and of the results y that it should give.

    Sums of products, or where columns are more than rows, the rows.
    """

    @property
    def count(self) -> float:
        """How many samples there are."""

    @property
    def finite(self) -> bool:
        """Whether all samples were numbers."""

    @property
    def varies(self) -> bool:
        """Whether any input does."""

    @property
    def variance(self) -> Doubles:
        """Mean squares of y about its mean, [blocks, rows]."""

    def __add__(self, other: Self) -> Self:
        """The samples of both."""

    def some(self, rows: Ids) -> Self:
        """The same for some rows of W."""

    def refits(
        self, weight: Floats, keep: Bools, dampings: Sequence[float], biased: bool
    ) -> Iterator[Floats]:
        """For each ridge the minimiser of |Y - V X'|^2 + l |V - W|^2 that is zero outside `keep`."""

    def offset(self, weight: Floats) -> Doubles:
        """The bias with which a weight gives the wanted results on average, [blocks, rows]."""

    def loss(self, weight: Floats, bias: Doubles) -> Doubles:
        """Mean squared difference to the wanted results, [blocks, rows]."""

    def spread(self, weight: Floats) -> Doubles:
        """Mean squares of what a weight gives, about its mean, [blocks, rows]."""

    def metric(self, block: int, columns: slice, biased: bool) -> Doubles:
        """Sum of x x' over some columns of a block, about the mean where a bias takes it up."""


@dataclass(frozen=True)
class Moments:
    """Sums over samples of the inputs x of a Site and of the results y that it should give.

    Attributes:
        count: number of samples.
        x: sum of inputs, [blocks, columns].
        y: sum of wanted results, [blocks, rows].
        xx: sum of x x' about the mean, [blocks, columns, columns].
        yx: sum of y x' about both means, [blocks, rows, columns].
        yy: sum of squares of y about the mean, [blocks, rows].
    """

    count: float
    x: Doubles
    y: Doubles
    xx: Doubles
    yx: Doubles
    yy: Doubles

    def __add__(self, other: Moments) -> Moments:
        x, y = (
            between(self.count, one, other.count, two) for one, two in ((self.x, other.x), (self.y, other.y))
        )
        return Moments(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx + x[:, :, None] * x[:, None],
            self.yx + other.yx + y[:, :, None] * x[:, None],
            self.yy + other.yy + y**2,
        )

    @property
    def raw(self) -> Moments:
        """The same about zero, as if all means were."""
        n = max(self.count, 1.0)
        return Moments(
            self.count,
            np.zeros_like(self.x),
            np.zeros_like(self.y),
            self.xx + self.x[:, :, None] * (self.x[:, None] / n),
            self.yx + self.y[:, :, None] * (self.x[:, None] / n),
            self.yy + self.y**2 / n,
        )

    def metric(self, block: int, columns: slice, biased: bool) -> Doubles:
        """Sum of x x' over some columns of a block, about the mean where a bias takes it up."""
        total = self.x[block, columns]
        apart = 0.0 if biased else np.outer(total, total / max(self.count, 1.0))
        return np.asarray(self.xx[block, columns, columns] + apart)

    @property
    def finite(self) -> bool:
        """Whether all samples were numbers."""
        return bool(np.isfinite(self.x).all() and np.isfinite(self.y).all())

    @property
    def varies(self) -> bool:
        """Whether any input does."""
        return bool(np.diagonal(self.xx, axis1=1, axis2=2).any())

    @property
    def variance(self) -> Doubles:
        """Mean squares of y about its mean, [blocks, rows]."""
        return self.yy / max(self.count, 1.0)

    def some(self, rows: Ids) -> Moments:
        """The same for some rows of W."""
        return replace(self, y=self.y[:, rows], yx=self.yx[:, rows], yy=self.yy[:, rows])

    def refits(
        self, weight: Floats, keep: Bools, dampings: Sequence[float], biased: bool
    ) -> Iterator[Doubles]:
        """`refit` with each of these ridges, about the means where a bias can take them up."""
        use = self if biased else self.raw
        for damping in dampings:
            yield refit(np.asarray(weight, np.float64), use.xx, use.yx, keep, damping)

    def offset(self, weight: Floats) -> Doubles:
        """The bias with which a weight gives the wanted results on average, [blocks, rows]."""
        missing: Doubles = self.y - np.einsum("brc,bc->br", weight, self.x)
        return missing / max(self.count, 1.0)

    def loss(self, weight: Floats, bias: Doubles) -> Doubles:
        """Mean squared difference to the wanted results, [blocks, rows]."""
        slope = np.einsum("brc,brc->br", weight @ self.xx - 2 * self.yx, weight)
        varying = np.maximum(self.yy + slope, 0) / max(self.count, 1.0)
        squares: Doubles = varying + (self.offset(weight) - bias) ** 2
        return squares

    def spread(self, weight: Floats) -> Doubles:
        """Mean squares of what a weight gives, about its mean, [blocks, rows]."""
        squares: Doubles = np.einsum("brc,brc->br", weight @ self.xx, weight)
        return squares / max(self.count, 1.0)


def observed(x: Floats, y: Floats) -> Moments:
    """Moments of samples: x [blocks, samples, columns] and y [blocks, samples, rows]."""
    one, two = about_mean(x), about_mean(y)
    xx, yx = (np.zeros((len(x), each.rows.shape[2], x.shape[2])) for each in (one, two))
    one.add_products(xx, one)
    two.add_products(yx, one)
    return Moments(one.count, one.sum, two.sum, xx, yx, two.squares)


def dense_moments(weight: Doubles, scatter: Doubles, total: Doubles, count: float) -> Moments:
    """Moments where a Site should give what its own weight gives: the one-shot case.

    Args:
        weight: W, [blocks, rows, columns].
        scatter: sum of x x' about the mean.
        total: sum of x.
        count: number of samples.
    """
    yx = weight @ scatter
    y = np.einsum("brc,bc->br", weight, total)
    return Moments(count, total, y, scatter, yx, np.einsum("brc,brc->br", yx, weight))


def refit(
    weight: Doubles,
    gram: Doubles,
    cross: Doubles | None,
    keep: Bools,
    damping: float = DAMPING,
) -> Doubles:
    """The minimiser of |Y - V x'|^2 + l |V - W|^2 among V that are zero outside `keep`.

    With Y = W x this is W x x'^T (x' x'^T + l I)^-1 pulled towards W rather than to zero, which for x' = x is
    the OBS update W_K + W_P H_PK H_KK^-1 (docs/methods.md#repair-refit).

    Args:
        weight: W, [blocks, rows, columns].
        gram: x' x'^T, [blocks, columns, columns].
        cross: Y x'^T, [blocks, rows, columns]; None for W times the Gram.
        keep: columns that stay, [blocks, columns].
        damping: l as a share of the mean of the kept diagonal.
    """
    cross = weight @ gram if cross is None else cross
    if gram.shape[0] > 1:
        return _batched(weight, gram, cross, keep, damping)
    found = np.zeros_like(weight)
    kept = np.flatnonzero(keep[0])
    if len(kept):
        inner = gram[0][np.ix_(kept, kept)]
        level = ridge(np.diagonal(inner), damping)
        inner[np.diag_indices_from(inner)] += level
        found[0][:, kept] = _solve(inner, (cross[0][:, kept] + level * weight[0][:, kept]).T).T
    return found


def _solve(matrix: Doubles, wanted: Doubles) -> Doubles:
    """By Cholesky; by least squares where rounding left no positive matrix."""
    try:
        factor = linalg.cholesky(matrix, lower=True, check_finite=False)
        return np.asarray(linalg.cho_solve((factor, True), wanted, check_finite=False))
    except linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, wanted, rcond=None)[0])


def _batched(weight: Doubles, gram: Doubles, cross: Doubles, keep: Bools, damping: float) -> Doubles:
    """Removed columns become an identity, so that all blocks keep one size."""
    inner = gram * (keep[:, :, None] & keep[:, None])
    diagonal = np.diagonal(inner, axis1=1, axis2=2)
    levels = np.array([ridge(row[mask], damping) for row, mask in zip(diagonal, keep, strict=True)])
    steps = np.arange(gram.shape[1])
    inner[:, steps, steps] += np.where(keep, levels[:, None], 1.0)
    wanted = (cross + levels[:, None, None] * weight) * keep[:, None]
    across = wanted.transpose(0, 2, 1)
    try:
        found = np.asarray(np.linalg.solve(inner, across), np.float64)
    except np.linalg.LinAlgError:
        found = np.stack([_solve(*block) for block in zip(inner, across, strict=True)])
    return found.transpose(0, 2, 1)


def ridge(diagonal: Doubles, damping: float) -> float:
    """The ridge that is a share of the mean of the kept diagonal.

    An input that is always zero says nothing: any ridge keeps its old weight.
    """
    mean = float(diagonal.mean()) if len(diagonal) else 0.0
    return damping * mean if mean > 0 else 1.0


def matched(weight: Floats, seen: Seen, low: float = 0.5, high: float = 2.0) -> tuple[Floats, Doubles]:
    """Rows scaled so that results spread as the wanted ones do, and a bias (docs/methods.md#repair-match).

    The factor stays within [low, high]: a row that hardly varies any more would only amplify noise.
    """
    spread = seen.spread(weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(spread > 0, np.sqrt(seen.variance / spread), 1.0)
    scaled = weight * np.clip(factor, low, high)[:, :, None].astype(weight.dtype)
    return scaled, seen.offset(scaled)
