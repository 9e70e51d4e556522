"""Allocation, clusters and the modes on pools whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.errors import DataError
from graphprune.sampling.choose import MODES, choose, draw, herd
from graphprune.sampling.clusters import allocate, cluster, distinct, nearest, shares, whole
from graphprune.sampling.features import Features
from graphprune.sampling.scores import of_classes


def pool(sizes, dims=6, noise=0.3, seed=0):
    """Blobs around unit vectors; samples of blob j come one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.eye(dims)[: len(sizes)] * 3
    points = np.concatenate(
        [c + noise * rng.standard_normal((n, dims)) for c, n in zip(centres, sizes, strict=True)]
    )
    scores = of_classes(points, points @ rng.standard_normal((dims, 4)), 0.0)
    digests = np.array([str(number).encode() for number in range(len(points))])
    return Features(points, digests, scores, len(sizes), 2.0)


def test_shares_of_clusters_by_complexity():
    wanted = 10 * shares(np.array([0.5, 0.25]), 0.5)
    assert wanted == pytest.approx([6.2246, 3.7754], abs=1e-4)
    high = np.array([20, 20])
    assert nearest(wanted, np.zeros(2, int), high) == pytest.approx(wanted)
    capped = np.array([4, 20])
    assert list(whole(nearest(wanted, np.zeros(2, int), capped), capped, 10)) == [4, 6]


def test_nearest_is_the_closest_point_of_the_box():
    rng = np.random.default_rng(4)
    wanted, low, high = 30 * rng.dirichlet(np.ones(5)), np.full(5, 2), np.array([5, 9, 9, 20, 30])
    best = nearest(wanted, low, high)
    assert best.sum() == pytest.approx(30)
    assert ((best >= low - 1e-9) & (best <= high + 1e-9)).all()
    for _ in range(200):  # no feasible exchange between two clusters comes closer
        i, j = rng.choice(5, 2, replace=False)
        other = best + 0.01 * (np.eye(5)[i] - np.eye(5)[j])
        if (other >= low).all() and (other <= high).all():
            assert np.linalg.norm(other - wanted) >= np.linalg.norm(best - wanted) - 1e-9


def test_every_cluster_sends_some_and_none_more_than_it_has():
    sizes = np.array([1000, 3, 1])
    sent = allocate(sizes / sizes.sum(), sizes, 60)
    assert sent.sum() == 60 and list(sent[1:]) == [3, 1]
    assert allocate(sizes / sizes.sum(), sizes, 2).sum() == 2


def test_clusters_are_found():
    features = pool((30, 20, 10), noise=0.1)
    found = cluster(features.points, 3, seed=0)
    assert sorted(found.sizes) == [10, 20, 30]
    assert len({found.labels[0], found.labels[30], found.labels[50]}) == 3


def test_near_duplicates_count_once():
    features = pool((5, 5), noise=0.5)
    twice = np.concatenate([features.points, features.points * 7])
    twice /= np.linalg.norm(twice, axis=1, keepdims=True)
    assert list(distinct(twice, cluster(twice, 2, 0))) == list(
        distinct(features.points, cluster(features.points, 2, 0))
    )


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "random"])
def test_every_mode_gives_that_many_and_the_same_again(mode):
    features = pool((60, 30, 10))
    chosen = choose(features, 20, mode, seed=3)
    assert len(chosen.numbers) == 20 == len(np.unique(chosen.numbers))
    assert chosen.numbers.max() < 100
    assert list(chosen.numbers) == list(choose(features, 20, mode, seed=3).numbers)
    assert (chosen.weights > 0).all()


def test_representative_is_proportional_and_easy_lies_inside_hard():
    features = pool((60, 30, 10), noise=0.6)
    owner = np.repeat([0, 1, 2], (60, 30, 10))
    sent = np.bincount(owner[choose(features, 20, "representative", 0).numbers])
    assert list(np.abs(sent - [12, 6, 2]) <= 2) == [True] * 3
    centres = np.eye(6)[owner]
    cosine = (features.points * centres).sum(1)
    easy, hard = (cosine[choose(features, 20, mode, 0).numbers].mean() for mode in ("easy", "hard"))
    assert easy > cosine.mean() > hard


def test_herding_matches_the_mean_better_than_a_draw():
    rng = np.random.default_rng(0)
    pooled = rng.standard_normal((400, 8)) ** 3
    scaled = (pooled - pooled.mean(0)) / pooled.std(0)
    picks = herd(pooled, 20, seed=0)
    drawn = [np.linalg.norm(scaled[draw(400, 20, seed)].mean(0)) for seed in range(20)]
    assert np.linalg.norm(scaled[picks].mean(0)) < min(drawn)


def test_what_cannot_be_used_is_left_out():
    features = pool((40, 20))
    features.pooled[7] = np.nan
    features.digests[9] = features.digests[8]
    chosen = choose(features, 58, "representative", 0)
    assert not {7, 9} & set(chosen.numbers)
    assert any("NaN" in note for note in chosen.notes) and any("duplicates" in note for note in chosen.notes)


def test_scores_need_logits():
    features = pool((40, 20))
    blind = Features(features.pooled, features.digests)
    with pytest.raises(DataError, match="needs a classifier or a language model"):
        choose(blind, 5, "donod", 0)
    features.pooled[:] = np.inf
    with pytest.raises(DataError, match="every sample"):
        choose(features, 5, "easy", 0)
