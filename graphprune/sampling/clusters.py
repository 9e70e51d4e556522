"""Groups of similar samples, and how many samples each group sends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Floats, Ids

ITERATIONS = 25
SAME = 0.98  # cosine from which two samples count as one
NEIGHBOURS = 20


@dataclass(frozen=True)
class Clusters:
    """A partition of unit vectors.

    Attributes:
        labels: cluster of each sample [n].
        cosine: of each sample with the centroid of its cluster [n].
        centroids: unit vectors [k, d].
    """

    labels: Ids
    cosine: Floats
    centroids: Floats

    @property
    def sizes(self) -> Ids:
        """Samples of each cluster [k]."""
        return np.bincount(self.labels, minlength=len(self.centroids))

    def of(self, numbers: Ids) -> Clusters:
        """The clusters of some of the samples; every cluster keeps at least one."""
        return Clusters(self.labels[numbers], self.cosine[numbers], self.centroids)


def cluster(points: Floats, count: int, seed: int) -> Clusters:
    """Spherical k-means of unit vectors [n, d] from k-means++ seeds; no cluster is empty."""
    chance = np.random.default_rng(seed)
    centroids = _seeds(points, min(count, len(points)), chance)
    for _ in range(ITERATIONS):
        labels = (points @ centroids.T).argmax(1)
        kept = np.unique(labels)
        sums = np.stack([points[labels == each].sum(0) for each in kept])
        moved = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(float).tiny)
        if moved.shape == centroids.shape and np.allclose(moved, centroids):
            break
        centroids = moved
    similar = points @ centroids.T
    kept, labels = np.unique(similar.argmax(1), return_inverse=True)
    return Clusters(labels, similar.max(1), centroids[kept])


def _seeds(points: Floats, count: int, chance: np.random.Generator) -> Floats:
    """The first at random, each further one with a chance that grows with its distance to the others."""
    chosen = [int(chance.integers(len(points)))]
    distance = np.maximum(1 - points @ points[chosen[0]], 0)
    for _ in range(1, count):
        if distance.sum() <= 0:
            break
        chosen.append(int(chance.choice(len(points), p=distance / distance.sum())))
        distance = np.minimum(distance, np.maximum(1 - points @ points[chosen[-1]], 0))
    return points[chosen]


def distinct(points: Floats, clusters: Clusters) -> Ids:
    """Numbers of samples that are no near-duplicate of an earlier one in their cluster."""
    kept: list[int] = []
    for number in range(len(clusters.centroids)):
        members = np.flatnonzero(clusters.labels == number)
        mine: list[int] = []
        for member in members:
            if not mine or float((points[mine] @ points[member]).max()) <= SAME:
                mine.append(int(member))
        kept += mine
    return np.sort(np.array(kept, dtype=np.int64))


def proportional(sizes: Ids) -> Floats:
    """Shares of the clusters as they are in the pool."""
    return np.asarray(sizes / sizes.sum())


def density(points: Floats, clusters: Clusters, temperature: float | None = None) -> Floats:
    """Shares by complexity, spread times isolation (density-based pruning, DBP).

    Args:
        points: unit vectors [n, d].
        clusters: of them.
        temperature: of the softmax; None takes the spread of the complexities, which are small.
    """
    within = np.array(
        [np.mean(1 - clusters.cosine[clusters.labels == j]) for j in range(len(clusters.centroids))]
    )
    apart = np.sort(1 - clusters.centroids @ clusters.centroids.T, axis=1)[:, 1 : NEIGHBOURS + 1]
    between = apart.mean(1) if apart.shape[1] else np.ones(1)
    complexity = within * between
    return shares(complexity, float(complexity.std()) or 0.5 if temperature is None else temperature)


def shares(complexity: Floats, temperature: float) -> Floats:
    """softmax(C / temperature)."""
    raised = np.exp((complexity - complexity.max()) / temperature)
    return np.asarray(raised / raised.sum())


def nearest(wanted: Floats, low: Ids, high: Ids) -> Floats:
    """The point of the same sum inside the box closest to `wanted`: clip(wanted - v, low, high) for one v."""
    total = min(max(float(wanted.sum()), float(low.sum())), float(high.sum()))
    least, most = float((wanted - high).min()), float((wanted - low).max())
    for _ in range(200):
        middle = (least + most) / 2
        if np.clip(wanted - middle, low, high).sum() > total:
            least = middle
        else:
            most = middle
    return np.asarray(np.clip(wanted - (least + most) / 2, low, high))


def whole(amounts: Floats, high: Ids, total: int) -> Ids:
    """Integers of the same sum by largest remainder, none above `high`."""
    found: Ids = np.floor(amounts + 1e-9).astype(np.int64)
    order = np.argsort(found - amounts, kind="stable")
    while found.sum() < min(total, int(high.sum())):
        for each in order:
            if found.sum() == total:
                break
            found[each] += found[each] < high[each]
    return found


def allocate(share: Floats, sizes: Ids, total: int) -> Ids:
    """How many samples each cluster sends: at least half of an even share where it has them."""
    floor = max(1, total // (2 * len(sizes)))
    low = np.minimum(floor if total >= len(sizes) else 0, sizes)
    return whole(nearest(total * share, low, sizes), sizes, total)
