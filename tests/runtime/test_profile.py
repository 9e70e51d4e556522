"""Where a model's time goes, and what the nodes that run were made of."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.runtime.patterns import block_width, floor, patterns
from graphprune.runtime.profile import Profile, profile

SWISH = """(float[1,32,24,24] x) => (float[1,32,24,24] y) {
    c = Conv<pads = [1,1,1,1]>(x, w)
    a = Add(c, three)
    b = Clip(a, zero, six)
    m = Mul(c, b)
    h = Div(m, six)
    y = Conv<pads = [1,1,1,1]>(h, v)
}"""
LOOP = """(float[64,64] x, float[64,64] w, int64 n, bool go) => (float[64,64] y) {
    y = Loop(n, go, x) <body = body (int64 i, bool c, float[64,64] s) => (bool k, float[64,64] t) {
        k = Identity(c)
        p = MatMul(s, w)
        t = Tanh(p)
    }>
}"""


def wave(build, seconds: float = 0.1) -> Profile:
    weights = {name: np.array(value, np.float32) for name, value in (("three", 3), ("zero", 0), ("six", 6))}
    model = build(SWISH, w=(32, 32, 3, 3), v=(32, 32, 3, 3), **weights)
    return profile(model, {"x": np.ones((1, 32, 24, 24), np.float32)}, seconds=seconds)


def test_every_node_has_its_work_and_the_shares_make_up_the_run(build):
    found = wave(build)
    works = {node.operator.rpartition(":")[2]: node.work for node in found.nodes}
    assert works.items() >= {"Conv": "contractions", "Clip": "elementwise", "Div": "elementwise"}.items()
    assert found.traced == pytest.approx(found.seconds, rel=0.5)
    assert sum(node.seconds for node in found.nodes if node.work == "contractions") > found.traced / 4


def test_a_chain_written_out_is_one_pattern(build):
    texts = {each.text: each for each in patterns(wave(build))}
    assert texts["Add Clip Mul Div"].nodes == 4
    if block_width() > 1:
        assert "reorder for Add Mul" in texts


def test_what_moves_elements_is_a_chain_too(build):
    text = "(float[8,3,3] x) => (float[9,8] y) { n = Neg(x) f = Flatten(n) t = Transpose(f) y = Exp(t) }"
    found = patterns(profile(build(text), {"x": np.ones((8, 3, 3), np.float32)}, seconds=0.01))
    assert {each.text for each in found} == {"Neg", "Flatten Transpose", "Exp"}


def test_patterns_hold_all_that_is_no_contraction(build):
    found = wave(build)
    outside = [node.seconds for node in found.nodes if node.work != "contractions"]
    assert sum(each.seconds for each in patterns(found)) == pytest.approx(sum(outside))
    assert sum(each.nodes for each in patterns(found)) == len(outside)


def test_a_fused_node_names_what_it_was_made_of(build):
    text = """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
        c = Conv<pads = [1,1,1,1]>(x, w)
        s = Add(c, x)
        y = Relu(s)
    }"""
    model = build(text, w=(16, 16, 3, 3))
    for node in model.graph:
        node.name = f"my {node.op_type}"
    found = profile(model, {"x": np.ones((1, 16, 8, 8), np.float32)}, seconds=0.05)
    (conv,) = (node for node in found.nodes if node.work == "contractions")
    assert set(conv.sources) >= {"my Conv"}
    assert {name for node in found.nodes for name in node.sources} == {"my Conv", "my Add", "my Relu"}


def test_the_time_of_a_body_is_its_nodes(build):
    model = build(LOOP)
    ones = np.ones((64, 64), np.float32)
    feeds = {"x": ones, "w": ones, "n": np.array(50), "go": np.array(True)}
    found = profile(model, feeds, seconds=0.1)
    loop = next(node for node in found.nodes if node.operator == "Loop")
    product = next(node for node in found.nodes if node.work == "contractions")
    assert (loop.work, product.calls) == ("control flow", 50)
    assert product.within == found.nodes.index(loop)
    assert product.sources == ("p",)
    assert product.seconds > loop.seconds


def test_small_convolutions_have_no_step_left(build):
    if block_width() == 1:
        pytest.skip("this machine has no blocks of channels")
    wide = 4 * block_width()
    weights = {"w": (4, 4, 3, 3), "v": (wide, 4, 3, 3)}
    text = f"(float[1,4,16,16] x) => (float[1,{wide},12,12] y) {{ c = Conv(x, w) y = Conv(c, v) }}"
    least = floor(profile(build(text, **weights), {"x": np.ones((1, 4, 16, 16), np.float32)}, seconds=0.05))
    assert least is not None
    assert (least.nodes, least.block) == (1, block_width())


def test_the_model_stays_as_it_is(build):
    model = build("(float[4,4] x) => (float[4,4] y) { y = Relu(x) }")
    before = ir.to_proto(model).SerializeToString()
    profile(model, {"x": np.ones((4, 4), np.float32)}, seconds=0.01)
    assert ir.to_proto(model).SerializeToString() == before
