"""Least squares on moments: the weights that reproduce a Site's dense results from what a cut leaves.

Everything is batched over blocks (groups of a convolution) and in double precision. y = W x is the result
without any bias; what is returned as a bias is added to the one that is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from graphprune.statistics.measures import between
from graphprune.statistics.rows import about_mean

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DAMPING = 0.01


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

    @property
    def finite(self) -> bool:
        """Whether all samples were numbers."""
        return bool(np.isfinite(self.x).all() and np.isfinite(self.y).all())


def observed(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> Moments:
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
    keep: Mask,
    damping: float = DAMPING,
) -> Doubles:
    """The minimiser of |Y - V x'|^2 + l |V - W|^2 among V that are zero outside `keep`.

    With Y = W x this is W x x'^T (x' x'^T + l I)^-1 pulled towards W rather than to zero, which for x' = x is
    the OBS update W_K + W_P H_PK H_KK^-1 (methods-general B1.4 and B1.5).

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
        ridge = _ridge(np.diagonal(inner), damping)
        inner[np.diag_indices_from(inner)] += ridge
        found[0][:, kept] = _solve(inner, (cross[0][:, kept] + ridge * weight[0][:, kept]).T).T
    return found


def _solve(matrix: Doubles, wanted: Doubles) -> Doubles:
    """By Cholesky; by least squares where rounding left no positive matrix."""
    try:
        return np.asarray(linalg.solve(matrix, wanted, assume_a="pos", check_finite=False))
    except linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, wanted, rcond=None)[0])


def _batched(weight: Doubles, gram: Doubles, cross: Doubles, keep: Mask, damping: float) -> Doubles:
    """Removed columns become an identity, so that all blocks keep one size."""
    inner = gram * (keep[:, :, None] & keep[:, None])
    diagonal = np.diagonal(inner, axis1=1, axis2=2)
    ridge = np.array([_ridge(row[mask], damping) for row, mask in zip(diagonal, keep, strict=True)])
    steps = np.arange(gram.shape[1])
    inner[:, steps, steps] += np.where(keep, ridge[:, None], 1.0)
    wanted = (cross + ridge[:, None, None] * weight) * keep[:, None]
    across = wanted.transpose(0, 2, 1)
    try:
        found = np.asarray(np.linalg.solve(inner, across), np.float64)
    except np.linalg.LinAlgError:
        found = np.stack([_solve(*block) for block in zip(inner, across, strict=True)])
    return found.transpose(0, 2, 1)


def _ridge(diagonal: Doubles, damping: float) -> float:
    """An input that is always zero says nothing: any ridge keeps its old weight."""
    mean = float(diagonal.mean()) if len(diagonal) else 0.0
    return damping * mean if mean > 0 else 1.0


def refit_centred(
    weight: Doubles, moments: Moments, keep: Mask, damping: float = DAMPING
) -> tuple[Doubles, Doubles]:
    """Refit about the means and the bias that restores them (the extension of FLAP in methods-llm 4.8).

    Returns:
        The weight, and the bias [blocks, rows] that replaces the dense one.
    """
    found = refit(weight, moments.xx, moments.yx, keep, damping)
    return found, offset(found, moments)


def offset(weight: Doubles, moments: Moments) -> Doubles:
    """The bias with which a weight gives the wanted results on average, [blocks, rows]."""
    missing: Doubles = moments.y - np.einsum("brc,bc->br", weight, moments.x)
    return missing / max(moments.count, 1.0)


def mean_compensation(weight: Doubles, mean: Doubles, keep: Mask) -> Doubles:
    """What removed inputs contributed on average, W_P mu_P (FLAP)."""
    lost: Doubles = np.einsum("brc,bc->br", weight, np.where(keep, 0.0, mean))
    return lost


def loss(weight: Doubles, bias: Doubles, moments: Moments) -> Doubles:
    """Mean squared difference to the wanted results, [blocks, rows]."""
    slope = np.einsum("brc,brc->br", weight @ moments.xx - 2 * moments.yx, weight)
    varying = np.maximum(moments.yy + slope, 0) / max(moments.count, 1.0)
    squares: Doubles = varying + (offset(weight, moments) - bias) ** 2
    return squares


def matched(
    weight: Doubles, moments: Moments, low: float = 0.5, high: float = 2.0
) -> tuple[Doubles, Doubles]:
    """Every row scaled so that its results spread as the wanted ones do, and the bias with it (B10.2).

    The factor stays within [low, high]: a row that hardly varies any more would only amplify noise.
    """
    spread = np.einsum("brc,brc->br", weight @ moments.xx, weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(spread > 0, np.sqrt(moments.yy / spread), 1.0)
    scaled = weight * np.clip(factor, low, high)[:, :, None]
    return scaled, offset(scaled, moments)
