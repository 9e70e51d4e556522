"""Graphs so small that the right answer is known by hand (docs/theory.md#labels)."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Options

from .claims import cut, pins, proves, run, sketch, touched, units, weight


def test_a_unit_of_a_chain_is_a_row_its_statistics_and_a_column() -> None:
    found = sketch(
        """(float[n,3,5,5] x) => (float[n,2,5,5] y) { a = Conv(x, w1)
        b = BatchNormalization(a, g, s, m, v)\n c = Relu(b)\n y = Conv(c, w2) }""",
        w1=(4, 3, 1, 1), g=(4,), s=(4,), m=(4,), v=np.ones(4, np.float32), w2=(2, 4, 1, 1),
    )  # fmt: skip
    assert units(found) == [4]
    places = [("w1", 0), ("g", 0), ("s", 0), ("m", 0), ("v", 0), ("w2", 1)]
    assert touched(found, "w1:0", 2) == {place: [2] for place in places}
    proves(found)


def test_a_residual_ties_both_branches() -> None:
    found = sketch(
        "(float[n,5] x) => (float[n,2] y) { a = MatMul(x, wa)\n b = MatMul(x, wb)\n c = Add(a, b)\n"
        " y = MatMul(c, wc) }",
        wa=(5, 6), wb=(5, 6), wc=(6, 2),
    )  # fmt: skip
    assert units(found) == [6]
    assert touched(found, "wa:1", 4) == {("wa", 1): [4], ("wb", 1): [4], ("wc", 0): [4]}
    proves(found)


def test_concat_gives_every_input_its_own_columns() -> None:
    found = sketch(
        "(float[n,5] x) => (float[n,2] y) { a = MatMul(x, u)\n b = MatMul(x, v)\n"
        " c = Concat <axis = 1> (a, b)\n y = MatMul(c, w) }",
        u=(5, 2), v=(5, 3), w=(5, 2),
    )  # fmt: skip
    assert units(found) == [2, 3]
    assert [touched(found, "u:1", i)["w", 0] for i in range(2)] == [[0], [1]]
    assert [touched(found, "v:1", i)["w", 0] for i in range(3)] == [[2], [3], [4]]
    proves(found)


def test_concat_with_itself_gives_two_columns_to_every_unit() -> None:
    found = sketch(
        "(float[n,5] x) => (float[n,2] y) { a = MatMul(x, u)\n c = Concat <axis = 1> (a, a)\n"
        " y = MatMul(c, w) }",
        u=(5, 2), w=(4, 2),
    )  # fmt: skip
    assert units(found) == [2]
    assert [touched(found, "u:1", i)["w", 0] for i in range(2)] == [[0, 2], [1, 3]]
    proves(found)


def test_flatten_gives_a_channel_all_its_pixels() -> None:
    found = sketch(
        "(float[n,3,2,2] x) => (float[n,5] y) { a = Conv(x, w1)\n b = Flatten(a)\n y = Gemm(b, w2) }",
        w1=(2, 3, 1, 1), w2=(8, 5),
    )  # fmt: skip
    assert units(found) == [2]
    assert [touched(found, "w1:0", i)["w2", 0] for i in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    proves(found)


PRODUCT = """(float[n,4] x) => (float[n,5] y) {{ a = MatMul(x, w1)\n {more}\n r = Reshape({last}, shape)
    m = MatMul(r, w2)\n y = ReduceSum <keepdims = 0> (m, axis) }}"""
PRODUCT_WEIGHTS = {"w1": (4, 6), "w2": (3, 5), "shape": np.array([0, 2, 3]), "axis": np.array([1])}


def test_a_reshape_makes_two_kinds_of_units_of_one_axis() -> None:
    found = sketch(PRODUCT.format(more="", last="a"), **PRODUCT_WEIGHTS)
    assert units(found) == [2, 3]
    assert [touched(found, "w1:1", i)["w1", 1] for i in range(2)] == [[0, 1, 2], [3, 4, 5]]
    assert [touched(found, "w1:1#2", i)["w1", 1] for i in range(3)] == [[0, 3], [1, 4], [2, 5]]
    proves(found)


def test_an_axis_added_to_a_product_has_the_same_units() -> None:
    found = sketch(
        PRODUCT.format(more="b = MatMul(x, w3)\n c = Add(a, b)", last="c"), **PRODUCT_WEIGHTS, w3=(4, 6)
    )
    assert units(found) == [2, 3]
    assert touched(found, "w1:1", 1)["w3", 1] == [3, 4, 5]
    proves(found)


SHUFFLE = """(float[n,3,4,4] x) => (float[n,2,4,4] y) {{ a = Conv(x, w1)\n {shuffle}
    d = Conv <group = 6> (c, w2)\n y = Conv(d, w3) }}"""
SHUFFLE_WEIGHTS = {"w1": (6, 3, 1, 1), "w2": (6, 1, 1, 1), "w3": (2, 6, 1, 1)}


SHUFFLE_STEPS = "b = Reshape(a, s1)\n t = Transpose <perm = [0, 2, 1, 3, 4]> (b)\n c = Reshape(t, s2)"
SHUFFLE_SHAPES = {"s1": np.array([0, 2, 3, 4, 4]), "s2": np.array([0, 6, 4, 4])}


def test_a_channel_shuffle_that_is_kept_has_groups_and_positions() -> None:
    body = SHUFFLE.format(shuffle=SHUFFLE_STEPS)
    found = sketch(body, Options(shuffle="keep"), **SHUFFLE_WEIGHTS, **SHUFFLE_SHAPES)
    assert units(found) == [2, 3]
    assert touched(found, "w1:0#2", 1) == {("w1", 0): [1, 4], ("w2", 0): [2, 3], ("w3", 1): [2, 3]}
    proves(found)


def test_a_channel_shuffle_becomes_a_gather_so_that_channels_are_free() -> None:
    found = sketch(SHUFFLE.format(shuffle=SHUFFLE_STEPS), **SHUFFLE_WEIGHTS, **SHUFFLE_SHAPES)
    assert units(found) == [6]
    assert touched(found, "w1:0", 3) == {("w1", 0): [3], ("w2", 0): [1], ("w3", 1): [1]}
    proves(found)


def test_a_channel_shuffle_by_a_constant_gather_leaves_channels_free() -> None:
    found = sketch(
        SHUFFLE.format(shuffle="c = Gather <axis = 1> (a, order)"),
        **SHUFFLE_WEIGHTS,
        order=np.array([0, 3, 1, 4, 2, 5]),
    )
    assert units(found) == [6]
    assert touched(found, "w1:0", 3) == {("w1", 0): [3], ("w2", 0): [1], ("w3", 1): [1]}
    proves(found)


@pytest.mark.parametrize(("mode", "rows"), [("DCR", [0, 2, 4, 6]), ("CRD", [0, 1, 2, 3])])
def test_depth_to_space_reads_four_channels_per_unit(mode: str, rows: list[int]) -> None:
    found = sketch(
        f"""(float[n,3,4,4] x) => (float[n,2,8,8] y) {{ a = Conv(x, w1)
        b = DepthToSpace <blocksize = 2, mode = "{mode}"> (a)\n y = Conv(b, w2) }}""",
        w1=(8, 3, 1, 1), w2=(2, 2, 1, 1),
    )  # fmt: skip
    assert units(found) == [2]
    assert touched(found, "w1:0", 0) == {("w1", 0): rows, ("w2", 1): [0]}
    proves(found)


GQA = """(float[2,5,6] x) => (float[2,5,6] y) {{
    q0 = MatMul(x, wq)\n k0 = MatMul(x, wk)\n v0 = MatMul(x, wv)
    q1 = Reshape(q0, qs)\n k1 = Reshape(k0, ks)\n v1 = Reshape(v0, ks)
    q2 = Transpose <perm = [0, 2, 1, 3]> (q1)\n k2 = Transpose <perm = [0, 2, 1, 3]> (k1)
    v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
    {turn}
    k4 = Unsqueeze(k3, two)\n v4 = Unsqueeze(v2, two)\n k5 = Expand(k4, es)\n v5 = Expand(v4, es)
    k6 = Reshape(k5, js)\n v6 = Reshape(v5, js)\n k7 = Transpose <perm = [0, 1, 3, 2]> (k6)
    s = MatMul(q3, k7)\n p = Softmax <axis = -1> (s)\n o0 = MatMul(p, v6)
    o1 = Transpose <perm = [0, 2, 1, 3]> (o0)\n o = Reshape(o1, os)\n y = MatMul(o, wo) }}"""
GQA_WEIGHTS = {
    "wq": (6, 16), "wk": (6, 8), "wv": (6, 8), "wo": (16, 6), "two": np.array([2]),
    "qs": np.array([0, 0, 4, 4]), "ks": np.array([0, 0, 2, 4]), "es": np.array([1, 1, 2, 1, 1]),
    "js": np.array([2, 4, 5, 4]), "os": np.array([0, 0, 16]),
}  # fmt: skip
TURN = """{0}a = Slice({0}2, zero, half, last)\n {0}b = Slice({0}2, half, whole, last)\n {0}n = Neg({0}b)
    {0}c = Concat <axis = -1> ({0}n, {0}a)\n {0}d = Mul({0}2, cos)\n {0}e = Mul({0}c, sin)
    {0}3 = Add({0}d, {0}e)"""
TABLES = {
    "cos": np.cos(np.tile(np.outer(np.arange(5), [1, 0.1]), 2)).astype(np.float32),
    "sin": np.sin(np.tile(np.outer(np.arange(5), [1, 0.1]), 2)).astype(np.float32),
    "zero": np.array([0]), "half": np.array([2]), "whole": np.array([4]), "last": np.array([-1]),
}  # fmt: skip


def test_grouped_queries_have_key_heads_repeats_and_two_kinds_of_dims() -> None:
    found = sketch(GQA.format(turn="q3 = Identity(q2)\n k3 = Identity(k2)"), **GQA_WEIGHTS)
    assert units(found) == [2, 2, 4, 4]
    proves(found)


def test_rotary_positions_pair_the_query_dims() -> None:
    found = sketch(GQA.format(turn=TURN.format("q") + "\n" + TURN.format("k")), **GQA_WEIGHTS, **TABLES)
    assert units(found) == [2, 2, 2, 4]
    proves(found)


def test_slots_added_by_padding_are_units_too() -> None:
    found = sketch(
        """(float[n,3,4,4] x) => (float[n,2,4,4] y) { a = Conv(x, w1)\n b = Pad(a, pads)\n c = Conv(x, w2)
        d = Add(b, c)\n y = Conv(d, w3) }""",
        w1=(16, 3, 1, 1), w2=(32, 3, 1, 1), w3=(2, 32, 1, 1), pads=np.array([0, 8, 0, 0, 0, 8, 0, 0]),
    )  # fmt: skip
    assert units(found) == [16, 16]
    assert touched(found, "w2:0", 0) == {("w2", 0): [0], ("w3", 1): [0]}
    small = cut(found, **{"w2:0": tuple(range(1, 16))})
    pad = next(node for node in small.graph if node.op_type == "Pad")
    assert pad.inputs[1] is not None and pad.inputs[1].const_value is not None
    assert pad.inputs[1].const_value.numpy().tolist() == [0, 7, 0, 0, 0, 8, 0, 0]
    proves(found)


SHARED = """(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w)\n b = MatMul(x, w)\n c = Relu(a)
    d = Sigmoid(b)
    e = MatMul(c, w2)\n f = MatMul(d, w3)\n y = Add(e, f) }"""
SHARED_WEIGHTS = {"w": (5, 8), "w2": (8, 2), "w3": (8, 2)}


def test_a_layer_that_is_applied_twice_can_be_cut_apart() -> None:
    found = sketch(SHARED, Options(share="split"), **SHARED_WEIGHTS)
    assert units(found) == [8, 8]
    small = cut(found, w=(0, 1, 2))
    widths = sorted(
        v.const_value.shape[1]
        for n, v in small.graph.initializers.items()
        if v.const_value and n not in ("w2", "w3")
    )
    assert widths == [3, 8]
    proves(found)


def test_a_layer_that_is_applied_twice_loses_the_same_slots_everywhere() -> None:
    found = sketch(SHARED, **SHARED_WEIGHTS)
    assert units(found) == [8]
    assert touched(found, "w:1", 3) == {("w", 1): [3], ("w2", 0): [3], ("w3", 0): [3]}
    small = cut(found, w=(0, 1, 2))
    assert len(small.graph.initializers) == 3
    proves(found)


NORMALISED = """(float[1,3] x) => (float[1,2] y) {{ a = MatMul(x, one)\n b = {norm}\n y = MatMul(b, two) }}"""
EYES = {"one": np.eye(3, dtype=np.float32), "two": np.eye(3, 2, dtype=np.float32)}


def test_rms_norm_of_kept_units_is_compensated() -> None:
    norm = "RMSNormalization <axis = -1, epsilon = 0.1> (a, g)"
    found = sketch(NORMALISED.format(norm=norm), opset=23, **EYES, g=np.ones(3, np.float32))
    small = cut(found, one=(0, 1))
    for model in (found.model, small):
        np.testing.assert_allclose(run(model, x=[[3, 4, 0]]), [[1.033051, 1.377401]], rtol=1e-5)
    np.testing.assert_allclose(weight(small, "g"), np.full(2, 1.5**0.5), rtol=1e-6)
    proves(found)


LAYER = "LayerNormalization <axis = -1, epsilon = 0.0> (a, g, s)"
LAYER_WEIGHTS = {**EYES, "g": np.ones(3, np.float32), "s": np.zeros(3, np.float32)}


def test_layer_norm_is_pinned_unless_asked() -> None:
    found = sketch(NORMALISED.format(norm=LAYER), **LAYER_WEIGHTS)
    assert units(found) == []
    assert pins(found)["one:1"] == "LayerNormalization normalises over it"


def test_layer_norm_expanded_keeps_its_values() -> None:
    found = sketch(NORMALISED.format(norm=LAYER), Options(layernorm="expand"), **LAYER_WEIGHTS)
    small = cut(found, one=(0, 1))
    for model in (found.model, small):
        np.testing.assert_allclose(run(model, x=[[1, 3, 0]]), [[-0.267261, 1.336306]], rtol=1e-5)
    proves(found, adds=3)


def test_layer_norms_that_share_their_scale_are_expanded_with_their_own() -> None:
    """The readers of a shared scale are new nodes, which must get the clone of their own width's cut."""
    found = sketch(
        """(float[n,5] x) => (float[n,2] y) { a = MatMul(x, w1)\n b = LayerNormalization(a, g, s)
        c = MatMul(b, w2)\n d = LayerNormalization(c, g, s)\n y = MatMul(d, w3) }""",
        Options(layernorm="expand"), w1=(5, 6), g=(6,), s=(6,), w2=(6, 6), w3=(6, 2),
    )  # fmt: skip
    assert units(found) == [6, 6]
    proves(found, adds=6)


def test_layer_norm_sliced_computes_over_what_is_kept() -> None:
    found = sketch(NORMALISED.format(norm=LAYER), Options("slice", allow_inexact=True), **LAYER_WEIGHTS)
    np.testing.assert_allclose(run(cut(found, one=(0, 1)), x=[[1, 3, 0]]), [[-1, 1]], rtol=1e-5)
    proves(found)


def test_cuts_that_do_not_nest_pin_the_axis_and_say_so() -> None:
    found = sketch(
        """(float[n,4] x) => (float[n,5] y, float[n,5] z) { a = MatMul(x, w1)\n b = Reshape(a, two)\n c =
        Reshape(a, three) d = MatMul(b, w2)\n e = MatMul(c, w3)\n y = ReduceMax <axes = [1], keepdims = 0> (d)
        z = ReduceMax <axes = [1], keepdims = 0> (e) }""",
        opset=17, w1=(4, 6), w2=(3, 5), w3=(2, 5), two=np.array([0, 2, 3]), three=np.array([0, 3, 2]),
    )  # fmt: skip
    assert units(found) == []
    assert "divide evenly" in pins(found)["w1:1"]


def test_a_shuffle_of_rows_leaves_a_width_beside_it_alone() -> None:
    """Windows of a picture: positions move, while the width of the last axis goes as in any Reshape."""
    found = sketch(
        """(float[n,6,3] x) => (float[n,6,2] y) { a = MatMul(x, u)\n b = Reshape(a, s1)
        t = Transpose <perm = [0, 2, 1, 3]> (b)\n c = Reshape(t, s2)\n y = MatMul(c, v) }""",
        u=(3, 5), v=(5, 2), s1=np.array([0, 2, 3, 5]), s2=np.array([0, 6, 5]),
    )  # fmt: skip
    assert units(found) == [5]
    proves(found)
