"""Which samples of a pool to calibrate with: one algorithm that has the data-pruning papers as modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphprune.errors import DataError
from graphprune.ir.arrays import Floats, Ids
from graphprune.sampling import clusters as groups
from graphprune.sampling import scores
from graphprune.sampling.clusters import Clusters
from graphprune.sampling.features import Features

PRODUCTS = 512  # entries of the second moment that herding matches


@dataclass(frozen=True)
class Choice:
    """Samples that stand for a pool.

    Attributes:
        numbers: of the samples, ascending.
        weights: how much each stands for, 1 on average.
        notes: what happened on the way, for the report.
    """

    numbers: Ids
    weights: Floats
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mode:
    """A way to choose.

    Attributes:
        about: one line.
        order: samples of a cluster, the best first; None spreads them evenly.
        share: what each cluster sends.
        scored: whether it needs a classifier or a language model.
    """

    about: str
    order: Callable[[Features, Clusters], Floats] | None = None
    share: Callable[[Floats, Clusters], Floats] = lambda points, found: groups.proportional(found.sizes)
    scored: bool = False


def _donod(features: Features, found: Clusters) -> Floats:
    assert features.scores is not None
    don, nod = scores.norms(features.scores, features.weight_norm)
    return -scores.topsis(np.stack([np.abs(don), nod], axis=1))


def _plane(features: Features, found: Clusters) -> Floats:
    assert features.scores is not None
    return scores.plane(features.scores.loss, features.scores.entropy)


MODES = {
    "random": Mode("any samples: a strong baseline, and all that a small pool needs"),
    "representative": Mode("each cluster as often as in the pool, spread from its centre to its edge"),
    "easy": Mode("the samples closest to the centre of their cluster", lambda f, c: -c.cosine),
    "hard": Mode("the samples farthest from the centre of their cluster", lambda f, c: c.cosine),
    "dbp": Mode(
        "more from spread and isolated clusters, the hard ones first", lambda f, c: c.cosine, groups.density
    ),
    "herding": Mode("greedily, so that first and second moments match those of the pool"),
    "donod": Mode("those whose gradient step would change the last layer least", _donod, scored=True),
    "eu": Mode("sure but wrong, or right but unsure, by loss and entropy", _plane, scored=True),
}


def draw(total: int, count: int, seed: int) -> Ids:
    """Any `count` of `total` numbers, ascending."""
    chosen = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return np.asarray(np.sort(chosen))


def choose(features: Features, count: int, mode: str, seed: int) -> Choice:
    """Choose `count` samples by their features (docs/methods.md#calibration-samples).

    Raises:
        DataError: the mode needs scores that this model does not give.
    """
    rule = MODES[mode]
    if rule.scored and features.scores is None:
        message = f"'{mode}' needs a classifier or a language model: this one has no logits to score"
        raise DataError(message, "choose representative or random")
    usable, notes = _usable(features)
    count = min(count, len(usable))
    if mode == "herding":
        picks = herd(features.of(usable).pooled, count, seed)
        return Choice(np.sort(usable[picks]), np.ones(count), notes)
    points = features.of(usable).points
    found = groups.cluster(points, _how_many(len(points), features.classes), seed)
    kept = groups.distinct(points, found)
    if count <= len(kept) < len(points):
        notes += (f"{len(points) - len(kept)} near-duplicates left out",)
        usable, found = usable[kept], found.of(kept)
    left = features.of(usable)
    amounts = groups.allocate(rule.share(left.points, found), found.sizes, count)
    order = rule.order(left, found) if rule.order is not None else None
    picked = [_inside(found, number, amount, order) for number, amount in enumerate(amounts)]
    weights = [
        np.full(len(p), found.sizes[j] / len(left.points) / (len(p) / amounts.sum()))
        for j, p in enumerate(picked)
        if len(p)
    ]
    numbers = usable[np.concatenate(picked)]
    rank = np.argsort(numbers)
    return Choice(numbers[rank], np.concatenate(weights)[rank], notes)


def _usable(features: Features) -> tuple[Ids, tuple[str, ...]]:
    """Samples with finite features, each once."""
    finite = np.flatnonzero(np.isfinite(features.pooled).all(1))
    _, first = np.unique(features.digests[finite], return_index=True)
    usable = finite[np.sort(first)]
    dropped = (
        (len(features.digests) - len(finite), "samples give NaN or infinity and are left out"),
        (len(finite) - len(usable), "exact duplicates left out"),
    )
    if not len(usable):
        raise DataError(
            "the model gives NaN or infinity on every sample", "is the data scaled as it expects?"
        )
    return usable, tuple(f"{number} {text}" for number, text in dropped if number)


def _how_many(count: int, classes: int) -> int:
    """Clusters: one per class where that is known and small enough, else as many as the pool bears."""
    bound = max(1, min(64, int(np.sqrt(count / 2))))
    return classes if 2 <= classes <= bound else bound


def _inside(found: Clusters, number: int, amount: int, order: Floats | None) -> Ids:
    """Samples of one cluster: the first by `order`, or evenly spaced quantiles of the distance."""
    members = np.flatnonzero(found.labels == number)
    key = -found.cosine if order is None else order
    ranked = members[np.argsort(key[members], kind="stable")]
    if order is not None:
        return ranked[:amount]
    at = (np.arange(amount) + 0.5) * len(ranked) / max(amount, 1)
    return ranked[np.floor(at).astype(np.int64)]


def herd(pooled: Floats, count: int, seed: int) -> Ids:
    """Greedy herding on means and some second moments (Welling 2009; docs/methods.md#mode-herding).

    Each step takes the sample that brings the sum closest to that many means. Herding takes the largest
    inner product with what is missing instead, which is the same for features of one length; ours are not.
    """
    scaled = (pooled - pooled.mean(0)) / np.maximum(pooled.std(0), np.finfo(np.float32).eps)
    rows, columns = np.random.default_rng(seed).integers(pooled.shape[1], size=(2, PRODUCTS))
    found = np.concatenate([scaled, scaled[:, rows] * scaled[:, columns]], axis=1)
    goal, lengths = found.mean(0), (found**2).sum(1)
    wish, taken = goal.copy(), np.zeros(len(found), dtype=bool)
    picks = []
    for _ in range(count):
        pick = int(np.where(taken, -np.inf, 2 * (found @ wish) - lengths).argmax())
        taken[pick] = True
        picks.append(pick)
        wish += goal - found[pick]
    return np.array(picks, dtype=np.int64)
