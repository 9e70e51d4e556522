"""Scores of every criterion on weights where the answer is known (docs/methods.md#criteria-from-weights)."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.errors import ArgumentError, ModelError
from graphprune.prune.saliency import batch_norm_slices
from graphprune.prune.scoring import score_groups
from tests.axes.claims import sketch

from .widths import NORMED, rows, scores


@pytest.mark.parametrize(("criterion", "one", "two"), [("l1", 7, 1), ("l2", 5, 1)])
def test_norms(criterion: str, one: float, two: float) -> None:
    found = scores(rows([3, -4], [1, 0]), criterion)
    assert found[0] / found[1] == pytest.approx(one / two)


def test_scores_of_one_weight_have_mean_one() -> None:
    assert scores(rows([3, -4], [1, 0], [2, 2]), "l2").mean() == pytest.approx(1)


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_scores_do_not_depend_on_the_scale_of_a_weight(criterion: str, scale: float) -> None:
    units = np.array([[3, -4], [1, 0], [2, 2]])
    np.testing.assert_allclose(
        scores(rows(*units * scale), criterion), scores(rows(*units), criterion), rtol=1e-5
    )
    assert scores(rows(*units * scale), criterion).mean() == pytest.approx(1)


def test_weights_of_zeros_score_nothing() -> None:
    assert scores(rows([0, 0], [0, 0]), "l2").tolist() == [0, 0]


def test_the_most_replaceable_filter_scores_least() -> None:
    found = scores(rows([0, 0], [1, 0], [0, 1], [5, 5]), "fpgm")
    distances = np.array([9.0711, 8.8173, 8.8173, 19.8773])
    np.testing.assert_allclose(found, distances / distances.mean(), rtol=1e-4)


def test_lamp_divides_by_everything_that_is_not_smaller() -> None:
    np.testing.assert_allclose(scores(rows([1, 0], [0, 2], [3, 0]), "lamp"), [1 / 14, 4 / 13, 1], rtol=1e-6)
    np.testing.assert_allclose(scores(rows([3, 0], [1, 0], [0, 2]), "lamp"), [1, 1 / 14, 4 / 13], rtol=1e-6)


def test_batch_norm_scale_is_the_score() -> None:
    found = sketch(
        NORMED,
        w1=(4, 3, 1, 1),
        g=np.array([2, -3, 0, 1], np.float32),
        s=(4,),
        m=(4,),
        v=np.ones(4, np.float32),
        w2=(2, 4, 1, 1),
    )
    np.testing.assert_allclose(scores(found, "bn-scale"), [2, 3, 0, 1])


def test_scales_of_other_norms_are_no_scales_of_a_batch_norm() -> None:
    """Nor are its other vectors: one gamma is found beside a LayerNormalization's and an InstanceNorm's."""
    found = sketch(
        """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, w1)\n b = BatchNormalization(a, g, s, m, v)
        i = InstanceNormalization(b, gi, si)\n t = Transpose <perm = [0, 2, 3, 1]> (i)
        l = LayerNormalization(t, gl, sl)\n r = Transpose <perm = [0, 3, 1, 2]> (l)\n y = Conv(r, w2) }""",
        w1=(4, 3, 1, 1), g=(4,), s=(4,), m=(4,), v=np.ones(4, np.float32), gi=(4,), si=(4,), gl=(4,), sl=(4,),
        w2=(2, 4, 1, 1),
    )  # fmt: skip
    (group,) = (group for group in found.groups if group.size == 4)
    assert {"g", "gi", "gl"} <= {each.initializer for each in group.slices}
    assert [each.initializer for each in batch_norm_slices(group)] == ["g"]


def test_batch_norm_scale_needs_a_batch_norm() -> None:
    with pytest.raises(ArgumentError, match="no BatchNormalization scales group 'w1:1'") as caught:
        scores(rows([3, -4], [1, 0]), "bn-scale")
    assert "--calibration" in caught.value.hint


def _normed(seed: int = 3) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "w1": draw.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "g": draw.uniform(0.1, 3, 8).astype(np.float32),
        "s": draw.standard_normal(8).astype(np.float32),
        "m": draw.standard_normal(8).astype(np.float32),
        "v": draw.uniform(0.1, 3, 8).astype(np.float32),
        "w2": draw.standard_normal((2, 8, 1, 1)).astype(np.float32),
    }


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
def test_folding_a_batch_norm_does_not_change_the_scores(criterion: str) -> None:
    weights = _normed()
    factor = weights["g"] / np.sqrt(weights["v"] + 1e-5)
    folded = sketch(
        "(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, w1, b1)\n c = Relu(a)\n y = Conv(c, w2) }",
        w1=weights["w1"] * factor[:, None, None, None],
        b1=weights["s"] - weights["m"] * factor,
        w2=weights["w2"],
    )
    np.testing.assert_allclose(
        scores(sketch(NORMED, **weights), criterion), scores(folded, criterion), rtol=1e-5
    )


def test_random_scores_follow_the_seed() -> None:
    found = rows([1, 1], [1, 1], [1, 1], [1, 1])
    np.testing.assert_array_equal(scores(found, "random", 3), scores(found, "random", 3))
    assert (scores(found, "random", 3) != scores(found, "random", 4)).any()


def test_random_scores_do_not_depend_on_which_groups_are_scored() -> None:
    found = sketch(
        "(float[n,5] x) => (float[n,2] y) { a = MatMul(x, u)\n b = MatMul(x, v)\n"
        " c = Concat <axis = 1> (a, b)\n y = MatMul(c, w) }",
        u=(5, 4), v=(5, 4), w=(8, 2),
    )  # fmt: skip
    both = score_groups(found, found.prunable, "random", 1)
    backwards = score_groups(found, found.prunable[::-1], "random", 1)
    for name in ("u:1", "v:1"):
        np.testing.assert_array_equal(both[name], backwards[name])
    assert (both["u:1"] != both["v:1"]).any()


def test_several_sources_count_alike_whatever_their_scale() -> None:
    body = (
        "(float[n,2] x) => (float[n,2] y) { a = MatMul(x, u)\n b = MatMul(x, v)\n c = Add(a, b)\n"
        " y = MatMul(c, w) }"
    )
    u = np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    v = np.array([[30, 20, 10], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(scores(sketch(body, u=u, v=v, w=(3, 2)), "l1"), [1, 1, 1])


def test_a_shared_weight_counts_once() -> None:
    body = (
        "(float[n,2] x) => (float[n,2] y) { a = MatMul(x, u)\n b = MatMul(x, u)\n c = Add(a, b)\n"
        " d = MatMul(x, v)\n e = Add(c, d)\n y = MatMul(e, w) }"
    )
    u = np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    v = np.array([[3, 2, 1], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(scores(sketch(body, u=u, v=v, w=(3, 2)), "l1"), [1, 1, 1])


JOINED = """(float[n,4] x) => (float[m,3] y) { a = MatMul(x, u)\n s = Shape(a)\n e = Expand(v, s)
    b = Concat <axis = 0> (a, e)\n y = MatMul(b, w) }"""


def test_a_vector_among_the_sources_says_nothing_beside_a_matrix() -> None:
    u = np.array([[1, 2, 3], *np.zeros((3, 3))], np.float32)
    found = sketch(JOINED, u=u, v=np.array([9, 1, 1], np.float32), w=(3, 3))
    assert {(each.initializer, each.role) for each in found.prunable[0].slices} >= {
        ("u", "source"),
        ("v", "source"),
    }
    np.testing.assert_allclose(scores(found, "l1"), [0.5, 1, 1.5])


def test_a_vector_is_scored_where_it_is_the_only_source_and_all_slices_where_there_is_none() -> None:
    v, w = np.array([1, -2, 3], np.float32), np.array([[9, 0], [0, -5], [1, 1]], np.float32)
    joined = """(float[n,4] x, float[n,3] o) => (float[m,2] y) { s = Shape(o)\n e = Expand(v, s)
        b = Concat <axis = 0> (e, e)\n y = MatMul(b, w) }"""
    np.testing.assert_allclose(scores(sketch(joined, v=v, w=w), "l1"), [0.5, 1, 1.5])
    scaled = "(float[n,1] x) => (float[n,2] y) { a = Mul(x, v)\n b = Relu(a)\n y = MatMul(b, w) }"
    wanted = np.abs(v) / 2, np.abs(w).sum(axis=1) / (16 / 3)
    np.testing.assert_allclose(scores(sketch(scaled, v=v, w=w), "l1"), sum(wanted) / 2)


def test_a_unit_of_a_flattened_axis_sums_over_all_its_slots() -> None:
    found = sketch(
        """(float[n,4] x) => (float[n,5] y) { a = MatMul(x, w1)\n r = Reshape(a, shape)\n m = MatMul(r, w2)
        y = ReduceSum <keepdims = 0> (m, axis) }""",
        w1=np.array([[1, 1, 1, 2, 2, 2], *np.zeros((3, 6))], np.float32),
        w2=(3, 5),
        shape=np.array([0, 2, 3]),
        axis=np.array([1]),
    )
    np.testing.assert_allclose(scores(found, "l1"), [3 / 4.5, 6 / 4.5])


@pytest.mark.parametrize(
    "columns", [slice(0, 4), slice(8, 10), slice(12, 14)], ids=["queries", "keys", "values"]
)
def test_heads_in_a_packed_projection_count(columns: slice) -> None:
    body = """(float[2,5,6] x) => (float[2,5,6] y) { p = MatMul(x, w)\n q, k, v = Split <axis = 2> (p, sizes)
        a = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)\n y = MatMul(a, wo) }"""
    packed = np.ones((6, 16), np.float32)
    packed[:, columns] = 5  # of the first key head
    found = sketch(body, opset=23, w=packed, wo=(8, 6), sizes=np.array([8, 4, 4]))
    heads = score_groups(found, found.prunable, "l1", 0)["w:1"]
    assert len(heads) == 2 and heads[0] > heads[1]


def test_quantised_weights_are_scored_dequantised() -> None:
    body = """(float[n,2] x) => (float[n,2] y) { u = DequantizeLinear <axis = 1> (q, s, z)
    a = MatMul(x, u)\n y = MatMul(a, w) }"""
    found = sketch(
        body, q=np.array([[10, 10, 12], [10, 10, 12]], np.int8), s=np.array([1, 2, 1], np.float32),
        z=np.array([0, 0, 12], np.int8), w=(3, 2),
    )  # fmt: skip
    ranks = np.argsort(scores(found, "l2"))
    assert ranks.tolist() == [2, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_cannot_be_ranked(bad: float) -> None:
    with pytest.raises(ModelError, match="not all finite"):
        scores(rows([3, bad], [1, 0]), "l2")
