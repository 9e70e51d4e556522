"""What a criterion has nothing to read of is scored by norms, at the level of the scores of the others."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from graphprune.axes.kinds import kinds
from graphprune.errors import ArgumentError
from graphprune.prune.criteria import CRITERIA
from graphprune.prune.saliency import relative
from graphprune.prune.scoring import Scoring, score, score_groups
from graphprune.statistics.collect import collect
from graphprune.statistics.measures import Statistics, Wanted
from tests.axes.claims import sketch

Array = np.ndarray


def three() -> Analysis:
    """A layer whose results vary, one that gives nothing but zeros, and one that only an Einsum reads."""
    return sketch(
        """(float[n,6] x) => (float[n,4] y) { a = Gemm(x, w1, b1)\n r = Relu(a)\n b = MatMul(r, w2)
        c = Gemm(x, w3, b3)\n s = Relu(c)\n d = MatMul(s, w4)
        e = MatMul(x, w5)\n t = Relu(e)\n f = Einsum <equation = "nc,cd->nd"> (t, w6)\n y = Sum(b, d, f) }""",
        w1=(6, 8), b1=(8,), w2=(8, 4), w3=(6, 10), b3=np.full(10, -100, np.float32), w4=(10, 4), w5=(6, 12),
        w6=(12, 4),
    )  # fmt: skip


@pytest.mark.parametrize("criterion", ["wanda", "obs", "thinet", "cfsp"])
def test_groups_without_evidence_are_scored_by_norms_and_each_reason_is_told(criterion: str) -> None:
    analysis, told = three(), list[str]()
    data = [{"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}]

    def measure(wanted: Wanted) -> Statistics:
        return collect(analysis.model, data, wanted)

    groups, scoring = tuple(analysis.prunable), Scoring(criterion, CRITERIA[criterion], "none")
    found = score(analysis, groups, scoring, kinds(analysis), measure, told.append)
    sizes = {group.size: group.id for group in groups}
    assert set(found) == set(sizes.values()) and set(sizes) == {8, 10, 12}
    level = found[sizes[8]].mean()
    by_norm = score_groups(analysis, groups, "l2", 0)
    for size in (10, 12):
        np.testing.assert_allclose(found[sizes[size]], by_norm[sizes[size]] * level, rtol=1e-6)
    assert not np.allclose(found[sizes[8]] / level, by_norm[sizes[8]], rtol=0.01)
    assert [line.partition(", scored by l2: ")[2] for line in told] == [sizes[12], sizes[10]]
    assert "has nothing to measure at 1 groups" in told[0] and "nothing that varies at 1 groups" in told[1]


def test_a_part_that_says_nothing_leaves_the_others_as_they_are() -> None:
    (group,) = sketch(
        "(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w)\n y = MatMul(a, v) }", w=(6, 3), v=(3, 4)
    ).prunable
    zeros, ones = np.zeros(3), np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(relative(group, [zeros, ones]), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(relative(group, [zeros]), zeros)
    assert not relative(group, []).any()


@pytest.mark.parametrize("criterion", ["wanda", "obs", "nothing"])
def test_what_needs_data_or_is_not_there_cannot_score_by_weights_alone(criterion: str) -> None:
    analysis = three()
    with pytest.raises(ArgumentError, match=f"'{criterion}' cannot score by weights") as caught:
        score_groups(analysis, analysis.prunable, criterion)
    assert caught.value.hint == "known: l1, l2, lamp, fpgm, bn-scale, random"
