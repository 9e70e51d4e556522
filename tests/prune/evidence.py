"""Statistics of columns that a test makes up, and scores from them."""

from __future__ import annotations

import numpy as np

from graphprune.axes import Analysis
from graphprune.axes.kinds import kinds
from graphprune.prune.criteria import CRITERIA, Bars, cfsp
from graphprune.prune.criterion import Evidence
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.saliency import Weights
from graphprune.statistics.measures import Gram, Rank, Statistics, Vector

Array = np.ndarray


def vector(x: Array) -> Vector:
    """Of rows x [n, channels], one sample each."""
    x = np.asarray(x, np.float64)
    squares = (x * x).sum(0)
    return Vector(len(x), x.sum(0), squares, np.abs(x).sum(0), (x == 0).sum(0).astype(float), squares)


def gram(x: Array, blocks: int = 1) -> Gram:
    """Of rows x [n, blocks * columns]."""
    wide = np.asarray(x, np.float64).reshape(len(x), blocks, -1)
    about = wide - wide.mean(0)
    return Gram(len(x), wide.sum(0), np.einsum("nbi,nbj->bij", about, about))


def moments(second: Array) -> Gram:
    """One block whose mean of x x^T is this."""
    second = np.asarray(second, np.float64)
    return Gram(1.0, np.zeros((1, len(second))), second[None])


def ranks(values: Array) -> Rank:
    """Mean rank per channel."""
    values = np.asarray(values, np.float64)
    return Rank(1.0, values, np.ones_like(values), np.zeros_like(values))


def score(
    analysis: Analysis,
    criterion: str,
    vectors: dict[str, Vector] | None = None,
    grams: dict[str, Gram] | None = None,
    ranks: dict[str, Rank] | None = None,
    damping: float = 0.0,
    bars: Bars = "row",
    group: str = "",
) -> Array:
    """Scores of a prunable Group, the first unless named."""
    statistics = Statistics(vectors or {}, grams or {}, ranks or {})
    places, weights, found = SiteIndex(analysis), Weights(analysis), kinds(analysis)
    evidence = Evidence(places, statistics, weights, found, damping)
    mine = analysis.group(group) if group else analysis.prunable[0]
    values = (cfsp(bars) if criterion == "cfsp" else CRITERIA[criterion]).score(mine, evidence)
    assert values is not None
    return values
