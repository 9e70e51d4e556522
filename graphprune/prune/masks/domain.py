"""Scores of single weights for a domain that is weighed against all else; higher stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

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


Fisher = Literal["root", "mean", "raw"]


@dataclass(frozen=True)
class Terms:
    """Of domain alignment importance.

    Attributes:
        alpha: weight of the alignment of a row's gradients.
        beta: of the general information.
        gamma: of magnitude.
        fisher: mean squared gradients as they are, over their mean, or their roots over the mean root.
    """

    alpha: float
    beta: float
    gamma: float
    fisher: Fisher


def domain_alignment(weight: Singles, known: Mapping[str, Singles], terms: Terms) -> Doubles:
    """((F_d - beta F_g) |w| + gamma sqrt|w|) (1 + alpha s): GAPrune (arXiv 2509.10844).

    Args:
        weight: [..., rows, columns].
        known: in the same shape, mean gradients and mean squares, as "mean" and "square" on the domain, as
            "general mean" and "general square" on all else.
        terms: their weights.
    """
    w = np.abs(weight.astype(np.float64))
    domain, general = (_information(known[name], terms.fisher) for name in ("square", "general square"))
    felt = (domain - terms.beta * general) * w + terms.gamma * np.sqrt(w + EPSILON)
    return np.asarray(felt * (1 + terms.alpha * aligned(known["mean"], known["general mean"])))


def _information(squares: Singles, fisher: Fisher) -> Doubles:
    found = squares.astype(np.float64)
    if fisher == "root":
        found = np.sqrt(found)
    mean = 1.0 if fisher == "raw" else float(found.mean())
    return np.asarray(found / mean if mean > 0 else found)


def squashed(values: Doubles) -> Scores:
    """Standardised over the matrix, then in (0, 1): matrices compare, and no score is negative.

    In double precision, since a few outliers leave all others close together.
    """
    spread = float(values.std())
    standard = (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
    return np.asarray(expit(standard))
