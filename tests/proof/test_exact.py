"""A correct rewrite of every class of graph passes its proof."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Options

from .building import Case, cut, model

EXPAND = Options(layernorm="expand")
SLICE = Options(layernorm="slice", allow_inexact=True)

ATTENTION = """(float[n,6,12] x) => (float[n,6,12] y) {
    q0 = MatMul(x, wq)
    k0 = MatMul(x, wk)
    v0 = MatMul(x, wv)
    q1 = Reshape(q0, split)
    k1 = Reshape(k0, split)
    v1 = Reshape(v0, split)
    q = Transpose <perm = [0, 2, 1, 3]> (q1)
    k = Transpose <perm = [0, 2, 3, 1]> (k1)
    v = Transpose <perm = [0, 2, 1, 3]> (v1)
    s = MatMul(q, k)
    p = Softmax <axis = -1> (s)
    o0 = MatMul(p, v)
    o1 = Transpose <perm = [0, 2, 1, 3]> (o0)
    o = Reshape(o1, join)
    y = MatMul(o, wo)
}"""
ATTENTION_WEIGHTS = {
    "wq": (12, 12),
    "wk": (12, 12),
    "wv": (12, 12),
    "wo": (12, 12),
    "split": np.array([0, 0, 4, 3]),
    "join": np.array([0, 0, 12]),
}

GRAPHS = {
    "mlp": (
        "(float[n,6] x) => (float[n,4] y) { h = Gemm(x, w1, b1)\n r = Sigmoid(h)\n y = MatMul(r, w2) }",
        {"w1": (6, 8), "b1": (8,), "w2": (8, 4)},
    ),
    "transposed": (
        "(float[n,6] x) => (float[n,4] y) { h = Gemm <transB = 1> (x, w1)\n y = Gemm <transB = 1> (h, w2) }",
        {"w1": (8, 6), "w2": (4, 8)},
    ),
    "residual": (
        """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b = MatMul(x, w2)
        c = Add(a, b)
        d = Softplus(c)
        y = MatMul(d, w3) }""",
        {"w1": (6, 8), "w2": (6, 8), "w3": (8, 4)},
    ),
    "concat": (
        """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b = MatMul(x, w2)
        c = Concat <axis = 1> (a, b)
        y = MatMul(c, w3) }""",
        {"w1": (6, 8), "w2": (6, 4), "w3": (12, 4)},
    ),
    "gate": (
        """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b, c = Split <axis = 1> (a, sizes)
        d = Sigmoid(b)
        e = Mul(d, c)
        y = MatMul(e, w2) }""",
        {"w1": (6, 16), "w2": (8, 4), "sizes": np.array([8, 8])},
    ),
    "flatten": (
        """(float[n,3,4,4] x) => (float[n,5] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        b = Flatten(a)
        y = MatMul(b, w2) }""",
        {"w1": (6, 3, 3, 3), "w2": (96, 5)},
    ),
    "depthwise": (
        """(float[n,3,8,8] x) => (float[n,5,6,6] y) {
        a = Conv(x, w1)
        b = Conv <group = 8> (a, w2)
        y = Conv(b, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (8, 1, 3, 3), "w3": (5, 8, 1, 1)},
    ),
    "grouped": (
        """(float[n,3,8,8] x) => (float[n,5,6,6] y) {
        a = Conv(x, w1)
        b = Conv <group = 2> (a, w2)
        y = Conv(b, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (12, 4, 3, 3), "w3": (5, 12, 1, 1)},
    ),
    "transpose_conv": (
        """(float[n,3,5,5] x) => (float[n,2,10,10] y) {
        a = Conv(x, w1)
        y = ConvTranspose <strides = [2, 2]> (a, w2) }""",
        {"w1": (8, 3, 1, 1), "w2": (8, 2, 2, 2)},
    ),
    "attention": (ATTENTION, ATTENTION_WEIGHTS),
    "lstm": (
        """(float[7,n,5] x) => (float[7,n,3] y) {
        e = MatMul(x, w0)
        h, hn, cn = LSTM <hidden_size = 8> (e, w, r, b)
        s = Squeeze(h, one)
        y = MatMul(s, w1) }""",
        {"w0": (5, 6), "w": (1, 32, 6), "r": (1, 32, 8), "b": (1, 64), "w1": (8, 3), "one": np.array([1])},
    ),
    "mean": (
        """(float[n,6] x) => (float[n,9] y) {
        a = MatMul(x, w1)
        b = ReduceMean <axes = [1], keepdims = 1> (a)
        c = Relu(b)
        y = MatMul(c, w2) }""",
        {"w1": (6, 8), "w2": (1, 9)},
    ),
    "maximum": (
        """(float[n,6] x) => (float[n,9] y) {
        a = MatMul(x, w1)
        b = ReduceMax <axes = [1], keepdims = 1> (a)
        y = MatMul(b, w2) }""",
        {"w1": (6, 8), "w2": (1, 9)},
    ),
    "pad": (
        """(float[n,3,4,4] x) => (float[n,5,4,4] y) {
        a = Conv(x, w1)
        b = Pad(a, pads)
        c = Conv(x, w2)
        d = Add(b, c)
        y = Conv(d, w3) }""",
        {
            "w1": (4, 3, 1, 1),
            "w2": (8, 3, 1, 1),
            "w3": (5, 8, 1, 1),
            "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
        },
    ),
    "shuffle": (
        """(float[n,3,4,4] x) => (float[n,5,4,4] y) {
        a = Conv(x, w1)
        b = Gather <axis = 1> (a, order)
        y = Conv(b, w2) }""",
        {"w1": (6, 3, 1, 1), "w2": (5, 6, 1, 1), "order": np.array([0, 3, 1, 4, 2, 5])},
    ),
    "strided": (
        """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b = Slice(a, start, end, axis, step)
        c = Tanh(b)
        y = MatMul(c, w2) }""",
        {
            "w1": (6, 12),
            "w2": (6, 4),
            "start": np.array([1]),
            "end": np.array([12]),
            "axis": np.array([1]),
            "step": np.array([2]),
        },
    ),
}


@pytest.mark.parametrize("share", [0.5, 0.75])
@pytest.mark.parametrize("name", GRAPHS)
def test_exact(name: str, share: float) -> None:
    body, weights = GRAPHS[name]
    proof = cut(model(body, **weights), share=share).prove()
    assert proof.ok, proof.details
    assert proof.error < 1e-5
    assert proof.certificate.compared >= 2
    assert not proof.inexact


NORMS = {
    "layernorm": """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b = LayerNormalization <epsilon = 0.1> (a, gamma, beta)
        y = MatMul(b, w2) }""",
    "decomposed": """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        m = ReduceMean <axes = [1]> (a)
        d = Sub(a, m)
        s = Mul(d, d)
        v = ReduceMean <axes = [1]> (s)
        e = Add(v, eps)
        r = Sqrt(e)
        n0 = Div(d, r)
        g = Mul(n0, gamma)
        b = Add(g, beta)
        y = MatMul(b, w2) }""",
}
NORM_WEIGHTS = {"w1": (6, 8), "gamma": (8,), "beta": (8,), "w2": (8, 4)}
EPSILON = np.array(0.1, np.float32)


@pytest.mark.parametrize("name", NORMS)
def test_layernorm_expansion_is_exact(name: str) -> None:
    extra = {"eps": EPSILON} if name == "decomposed" else {}
    proof = cut(model(NORMS[name], **NORM_WEIGHTS, **extra), EXPAND).prove()
    assert proof.ok, proof.details
    assert not proof.inexact


@pytest.mark.parametrize("name", NORMS)
def test_sliced_layernorm_is_reported_as_another_function(name: str) -> None:
    extra = {"eps": EPSILON} if name == "decomposed" else {}
    proof = cut(model(NORMS[name], **NORM_WEIGHTS, **extra), SLICE).prove()
    assert proof.ok, proof.details
    assert proof.inexact
    assert any("on purpose" in line for line in proof.details)


def test_rms_norm_is_compensated() -> None:
    text = """(float[n,6] x) => (float[n,4] y) {
        a = MatMul(x, w1)
        b = RMSNormalization <epsilon = 0.1> (a, gamma)
        y = MatMul(b, w2) }"""
    dense = model(text, opset=23, w1=(6, 8), gamma=(8,), w2=(8, 4))
    proof = cut(dense).prove()
    assert proof.ok, proof.details
    assert not proof.inexact


def test_half_precision_has_its_own_bound() -> None:
    text = "(float16[n,64] x) => (float16[n,4] y) { h = MatMul(x, w1)\n r = Tanh(h)\n y = MatMul(r, w2) }"
    proof = cut(model(text, dtype=np.float16, w1=(64, 32), w2=(32, 4))).prove()
    assert proof.ok, proof.details
    assert proof.tolerance == 5e-3


def test_cache_heads_are_cut_in_inputs_and_outputs() -> None:
    text = """(float[1,2,12] x, float[1,4,p,3] past) => (float[1,2,12] y, float[1,4,t,3] present) {
        k0 = MatMul(x, wk)
        k1 = Reshape(k0, split)
        k2 = Transpose <perm = [0, 2, 1, 3]> (k1)
        present = Concat <axis = 2> (past, k2)
        q0 = MatMul(x, wq)
        q1 = Reshape(q0, split)
        q = Transpose <perm = [0, 2, 1, 3]> (q1)
        kt = Transpose <perm = [0, 1, 3, 2]> (present)
        s = MatMul(q, kt)
        p0 = Softmax <axis = -1> (s)
        o0 = MatMul(p0, present)
        o1 = Transpose <perm = [0, 2, 1, 3]> (o0)
        o = Reshape(o1, join)
        y = MatMul(o, wo)
    }"""
    weights = dict.fromkeys(("wk", "wq", "wo"), (12, 12))
    case = cut(model(text, split=np.array([0, 0, 4, 3]), join=np.array([0, 0, 12]), **weights))
    assert case.pruned.graph.inputs[1].shape is not None
    proof = case.prove()
    assert proof.ok, proof.details
    assert set(proof.errors) == {"y", "present"}


def test_tensors_replaced_and_masked_by_the_plan(conv: Case) -> None:
    from dataclasses import replace

    from graphprune.prune.rewrite import rewrite

    rng = np.random.default_rng(0)
    plan = replace(
        conv.plan,
        replaced={"b1": rng.standard_normal(8).astype(np.float32)},
        masks={"w2": rng.random((5, 8, 3, 3)) > 0.5},
    )
    case = Case(conv.dense, conv.analysis, plan, rewrite(conv.dense, conv.analysis, plan), conv.feeds)
    assert case.prove().ok, case.prove().details
    unchanged = case.prove(conv.pruned)
    assert not unchanged.ok
    assert {"b1", "w2"} <= {name for name in ("b1", "w2") if any(name in line for line in unchanged.failures)}


def test_an_empty_plan_proves_the_model_itself(conv: Case) -> None:
    from graphprune.proof import prove
    from graphprune.prune.plan import Plan

    proof = prove(conv.dense, conv.analysis, Plan(), conv.dense, conv.feeds)
    assert proof.ok
    assert proof.error == 0
