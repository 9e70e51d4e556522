"""Scores of single weights for a domain that is weighed against all else; higher stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from scipy.special import expit

from graphprune.ir.arrays import Doubles, Singles
from graphprune.prune.masks.drive import Needed, sequential
from graphprune.prune.masks.layers import Layer
from graphprune.prune.masks.patterns import Pattern, Scores
from graphprune.prune.masks.sweep import sweep
from graphprune.prune.masks.treat import Masked, Moments
from graphprune.run import Progress
from graphprune.statistics.stream import Stream

EPSILON = 1e-8


def importance(
    layers: Sequence[Layer], stream: Stream, ratio: float, damping: float, progress: Progress
) -> dict[str, Singles]:
    """W^2 / U_jj^2 of every weight when SparseGPT's sweep reaches it; its masks are thrown away.

    Args:
        layers: in the order in which they are swept.
        stream: of general samples.
        ratio: that the sweep removes.
        damping: share of the mean diagonal added to second moments.
        progress: told how far the work is.

    Returns:
        By name of a Layer, [blocks, rows, columns].
    """
    found: dict[str, Singles] = {}
    treat = partial(_swept, ratio, damping, found)
    for _ in sequential(layers, stream, treat, Needed(squares=False, grams=True), progress):
        pass
    return found


def _swept(ratio: float, damping: float, found: dict[str, Singles], layer: Layer, known: Moments) -> Masked:
    matrix = layer.matrix()
    felt, swept = np.zeros_like(matrix), np.empty_like(matrix)
    for at, (block, gram) in enumerate(zip(matrix, known.gram, strict=True)):
        swept[at], _ = sweep(block, gram, ratio, Pattern(), damping, felt=felt[at])
    found[layer.name] = felt
    return Masked(layer.stored(swept != 0), layer.restore(swept))


def dual(weight: Singles, known: Mapping[str, Singles], strength: float) -> Doubles:
    """|w g' - w^2 E[g'^2] / 2| with g' = g + c G g^2 of every sample (D-Pruner, eq. 5 and 7).

    Args:
        weight: of any shape.
        known: in the same shape, means over samples of g, g^2, g^3 and g^4 on the domain, as "mean",
            "square", "cube" and "fourth", and the "general" importance G.
        strength: mean |c G g^2| over mean |g|.
    """
    g, f, third, fourth, general = (
        known[name].astype(np.float64) for name in ("mean", "square", "cube", "fourth", "general")
    )
    w = weight.astype(np.float64)
    level = float((general * f).mean())
    c = general * (strength * float(np.abs(g).mean()) / level if level > 0 else 0.0)
    slopes, squares = g + c * f, f + 2 * c * third + c**2 * fourth
    return np.asarray(np.abs(w * slopes - w**2 * squares / 2))


def aligned(one: Singles, two: Singles) -> Doubles:
    """Cosine of the rows [..., rows, columns] of two gradients, [..., rows, 1]; 0 where one is zero."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    dots = np.einsum("...rc,...rc->...r", a, b)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.asarray(cosines[..., None], np.float64)


def domain_alignment(
    weight: Singles, known: Mapping[str, Singles], alpha: float, beta: float, gamma: float
) -> Doubles:
    """((F_d - beta F_g) |w| + gamma sqrt|w|) (1 + alpha s): GAPrune (arXiv 2509.10844), F over its mean.

    Args:
        weight: [..., rows, columns].
        known: in the same shape, mean gradients and mean squares, as "mean" and "square" on the domain, as
            "general mean" and "general square" on all else.
        alpha: weight of the alignment s of a row's gradients.
        beta: of the general information.
        gamma: of magnitude.
    """
    w = np.abs(weight.astype(np.float64))
    domain, general = (_over_mean(known[name]) for name in ("square", "general square"))
    s = aligned(known["mean"], known["general mean"])
    return np.asarray(((domain - beta * general) * w + gamma * np.sqrt(w + EPSILON)) * (1 + alpha * s))


def _over_mean(values: Singles) -> Doubles:
    mean = float(values.mean(dtype=np.float64))
    return np.asarray(values.astype(np.float64) / mean if mean > 0 else values, np.float64)


def squashed(values: Doubles) -> Scores:
    """Standardised over the matrix, then in (0, 1): matrices compare, and no score is negative.

    In double precision, since a few outliers leave all others close together.
    """
    spread = float(values.std())
    standard = (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
    return np.asarray(expit(standard))
