"""What the Units of a Group are, by structure alone."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from graphprune.axes.kinds import chosen, kinds
from graphprune.prune.blocks import blocks
from graphprune.prune.evidence import SiteIndex
from tests.axes.claims import sketch

SHAPES = {
    "four": np.array([0, 0, 4, 2]),
    "flat": np.array([0, 0, 8]),
    "half": np.array(0.5, np.float32),
}
SPLIT = " q = MatMul(n, wq)\n k = MatMul(n, wk)\n v = MatMul(n, wv)\n"
FUSED = " p = MatMul(n, wp)\n q, k, v = Split <axis = 2> (p, sizes)\n"
PROJECTIONS = {
    "split": dict.fromkeys(("wq", "wk", "wv"), (6, 8)),
    "fused": {"wp": (6, 24), "sizes": np.array([8, 8, 8])},
}


def decoder(qkv: str) -> Analysis:
    """One block: attention in primitive operators, then a gated hidden layer; the stream has 6 channels."""
    body = (
        "(int64[2,5] t) => (float[2,5,7] y) { x = Gather(e, t)\n n = RMSNormalization(x, g1)\n"
        + {"split": SPLIT, "fused": FUSED}[qkv]
        + """ q4 = Reshape(q, four)\n qh = Transpose <perm = [0, 2, 1, 3]> (q4)
        k4 = Reshape(k, four)\n kt = Transpose <perm = [0, 2, 3, 1]> (k4)
        v4 = Reshape(v, four)\n vh = Transpose <perm = [0, 2, 1, 3]> (v4)
        s = MatMul(qh, kt)\n c = Mul(s, half)\n a = Softmax <axis = -1> (c)\n o = MatMul(a, vh)
        ot = Transpose <perm = [0, 2, 1, 3]> (o)\n of = Reshape(ot, flat)\n m = MatMul(of, wo)
        r = Add(x, m)\n n2 = RMSNormalization(r, g2)\n gate = MatMul(n2, wg)\n act = Sigmoid(gate)
        up = MatMul(n2, wu)\n h = Mul(act, up)\n d = MatMul(h, wd)\n z = Add(r, d)
        n3 = RMSNormalization(z, g3)\n y = MatMul(n3, head) }"""
    )
    weights = PROJECTIONS[qkv] | {"e": (20, 6), "wo": (8, 6), "wg": (6, 9), "wu": (6, 9), "wd": (9, 6)}
    gains = dict.fromkeys(("g1", "g2", "g3"), (6,))
    return sketch(body, opset=23, **weights, **gains, head=(6, 7), **SHAPES)


def found(analysis: Analysis) -> dict[str, set[int]]:
    """Sizes of prunable Groups by kind."""
    by_kind: dict[str, set[int]] = {}
    for group in analysis.prunable:
        by_kind.setdefault(kinds(analysis)[group.id], set()).add(group.size)
    return by_kind


@pytest.mark.parametrize("qkv", ["split", "fused"])
def test_a_decoder_has_heads_dims_neurons_and_a_stream(qkv: str) -> None:
    assert found(decoder(qkv)) == {"heads": {4}, "dims": {2}, "neurons": {9}, "stream": {6}}


@pytest.mark.parametrize("qkv", ["split", "fused"])
def test_the_block_of_a_hidden_layer_begins_and_ends_in_the_stream(qkv: str) -> None:
    analysis = decoder(qkv)
    hidden = [g for g in analysis.prunable if kinds(analysis)[g.id] == "neurons"]
    assert list(blocks(hidden, SiteIndex(analysis)).values()) == [("x", "z")]


STREAM = """(int64[2,5] t, float[2,5,6] other) => (float[2,5,7] y) {{ x = Gather(e, t)
    n = RMSNormalization(x, g)\n up = MatMul(n, wu)\n h = Relu(up)\n d = MatMul(h, wd)\n {joins}
    n3 = RMSNormalization(z, g)\n y = MatMul(n3, head) }}"""


@pytest.mark.parametrize(
    ("joins", "found"),
    [
        ("z = Add(x, d)", [("x", "z")]),
        ("b = Add(d, bias)\n z = Add(b, x)", [("x", "z")]),
        ("r = Relu(other)\n b = Add(r, d)\n z = Add(x, b)", [("x", "z")]),
        ("r = Relu(other)\n z = Add(r, d)", []),
        ("z = Add(d, bias)", []),
        ("b = Add(x, d)\n r = Tanh(d)\n z = Add(b, r)", []),
    ],
    ids=[
        "a skip",
        "a bias before it",
        "a value that nothing else reads before it",
        "only that",
        "only a bias",
        "a branch that two nodes read",
    ],
)
def test_a_stream_is_what_others_read_as_well(joins: str, found: list[tuple[str, str]]) -> None:
    weights = {"e": (20, 6), "g": (6,), "wu": (6, 9), "wd": (9, 6), "head": (6, 7)}
    analysis = sketch(
        STREAM.format(joins=joins), opset=23, **weights, **({"bias": (6,)} if "bias" in joins else {})
    )
    hidden = [g for g in analysis.prunable if g.size == 9]
    assert list(blocks(hidden, SiteIndex(analysis)).values()) == found


def test_fused_attention_has_heads_and_dims() -> None:
    body = """(float[2,5,6] x) => (float[2,5,6] y) { q = MatMul(x, wq)\n k = MatMul(x, wk)\n v = MatMul(x, wv)
        a = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)\n y = MatMul(a, wo) }"""
    analysis = sketch(body, opset=23, wq=(6, 12), wk=(6, 6), wv=(6, 6), wo=(12, 6))
    assert found(analysis) == {"heads": {2}, "dims": {3}}  # key heads, and query heads of each


@pytest.mark.parametrize("weight", ["p", "q"])
def test_attention_that_projects_itself_has_them_in_its_weight(weight: str) -> None:
    """Dims of queries and keys stand nowhere else; the width that it reads is none."""
    body = """(float[2,5,6] x) => (float[2,5,6] y) { h = MatMul(x, wh)\n r = Relu(h)\n q = Mul(p, two)
        a = com.microsoft.Attention <num_heads = 4, qkv_hidden_sizes = [12, 12, 8]> (r, """
    wide = {"wh": (6, 9), "p": (9, 32), "two": np.array(2, np.float32), "wo": (8, 6)}
    analysis = sketch(f"{body}{weight})\n y = MatMul(a, wo) }}", **wide)
    assert found(analysis) == {"heads": {4}, "dims": {2, 3}, "neurons": {9}}


def test_convolutions_have_channels_and_a_residual_stream() -> None:
    body = """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, u)\n b = Relu(a)\n c = Conv(b, v)
        d = Relu(c)
        e = Conv(d, w)\n f = Add(b, e)\n y = Conv(f, z) }"""
    analysis = sketch(body, u=(8, 3, 1, 1), v=(5, 8, 1, 1), w=(8, 5, 1, 1), z=(2, 8, 1, 1))
    assert found(analysis) == {"stream": {8}, "channels": {5}}


def test_a_sum_of_branches_is_no_stream_before_anything_has_read_it() -> None:
    body = """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, u)\n b = Conv(x, v)\n c = Add(a, b)
        d = Relu(c)\n y = Conv(d, z) }"""
    assert found(sketch(body, u=(8, 3, 1, 1), v=(8, 3, 1, 1), z=(2, 8, 1, 1))) == {"channels": {8}}


def test_a_gate_computed_from_a_width_does_not_make_it_a_stream() -> None:
    body = """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, u)\n p = GlobalAveragePool(a)
        q = Conv(p, v)
        r = Relu(q)\n s = Conv(r, w)\n t = Sigmoid(s)\n g = Mul(a, t)\n y = Conv(g, z) }"""
    analysis = sketch(body, u=(8, 3, 1, 1), v=(4, 8, 1, 1), w=(8, 4, 1, 1), z=(2, 8, 1, 1))
    assert found(analysis) == {"channels": {4, 8}}


def test_a_tied_head_does_not_turn_the_stream_into_dims() -> None:
    body = """(int64[2,5] t) => (float[2,5,20] y) { x = Gather(e, t)\n h = MatMul(x, u)\n r = Relu(h)
        d = MatMul(r, w)
        z = Add(x, d)\n et = Transpose <perm = [1, 0]> (e)\n y = MatMul(z, et) }"""
    assert found(sketch(body, e=(20, 6), u=(6, 9), w=(9, 6))) == {"stream": {6}, "neurons": {9}}


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (("all",), {"heads", "dims", "stream", "neurons"}),
        (("inner",), {"heads", "dims", "neurons"}),
        (("stream",), {"stream"}),
        (("heads", "neurons"), {"heads", "neurons"}),
    ],
)
def test_kinds_that_are_asked_for(wanted: tuple[str, ...], kept: set[str]) -> None:
    words = ("heads", "dims", "stream", "neurons")
    assert {kind for kind in words if chosen(kind, wanted)} == kept  # type: ignore[arg-type]
