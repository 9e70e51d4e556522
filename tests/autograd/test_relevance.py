"""Relevance by the rules of the literature, and that none appears or vanishes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from tests.autograd.nets import digits
from tests.axes.claims import sketch

pytestmark = pytest.mark.zoo

BLOCK = """(float[1,5,8] x) => (float[1,5,3] y) {
    s = Sigmoid(x)
    g = Mul(x, s)
    n = LayerNormalization(g, scale, shift)
    q = MatMul(n, wq)
    k = MatMul(n, wk)
    v = MatMul(n, wv)
    t = Transpose<perm = [0, 2, 1]>(k)
    d = MatMul(q, t)
    p = Softmax(d)
    a = MatMul(p, v)
    b = Add(x, a)
    u = MatMul(b, up)
    r = Relu(u)
    o = Mul(r, b)
    e = Add(o, shift)
    c = Sub(e, x)
    m = Div(c, two)
    y = MatMul(m, head)
}"""
WEIGHTS = dict.fromkeys(("wq", "wk", "wv", "up"), (8, 8))
Array = np.ndarray


def explained(model: ir.Model, feeds: dict[str, Array], answers: dict[str, Array]):  # type: ignore[no-untyped-def]
    import torch

    from graphprune.autograd import Differentiable
    from graphprune.autograd.relevance import explain

    net = Differentiable(model, precision="float64")
    given, wanted = (
        {n: torch.from_numpy(a.astype(np.float64)) for n, a in each.items()} for each in (feeds, answers)
    )
    found = explain(net, model.graph, given, wanted)
    return found, {value.name: tensor.detach().numpy() for value, tensor in found.of.items()}


def require_conserved(model: ir.Model, found) -> None:  # type: ignore[no-untyped-def]
    ends = found.arrived(model.graph) + found.absorbed
    assert ends == pytest.approx(found.start, abs=1e-4 * abs(found.start))
    assert found.lost == pytest.approx(0, abs=1e-5)


def test_positive_parts_share_what_a_convolution_gets() -> None:
    text = "(float[1,2,1,1] x) => (float[1,2,1,1] y) { a = Relu(x)\n b = Conv(a, w)\n y = Relu(b) }"
    w = np.array([[1, -1], [2, 1]], np.float32).reshape(2, 2, 1, 1)
    model = sketch(text, w=w).model
    x = np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    found, of = explained(model, {"x": x}, {"y": np.ones((1, 2, 1, 1))})
    np.testing.assert_allclose(of["a"].ravel(), [1.5, 0.5])
    require_conserved(model, found)


def test_products_share_by_what_each_input_adds_and_the_bias_takes_its_part() -> None:
    text = "(float[1,2] x) => (float[1,2] y) { y = Gemm(x, w, b) }"
    w, b = np.array([[1, 2], [-1, 1]], np.float32), np.array([3, -1], np.float32)
    model = sketch(text, w=w, b=b).model
    found, of = explained(model, {"x": np.array([[1.0, 2.0]])}, {"y": np.array([[1.0, 1.0]])})
    z = np.array([2.0, 3.0])  # 1 - 2 + 3, 2 + 2 - 1
    np.testing.assert_allclose(of["x"], [[1 / z[0] + 2 / z[1], -2 / z[0] + 2 / z[1]]], rtol=1e-5)
    assert found.absorbed == pytest.approx(3 / z[0] - 1 / z[1], abs=1e-5)
    require_conserved(model, found)


def test_the_first_convolution_counts_from_the_ends_of_its_box() -> None:
    text = "(float[1,1,1,3] x) => (float[1,1,1,1] y) { y = Conv(x, w) }"
    w = np.array([2, -1, 1], np.float32).reshape(1, 1, 1, 3)
    model = sketch(text, w=w).model
    x = np.array([0.5, -1.0, 2.0])
    found, of = explained(model, {"x": x.reshape(1, 1, 1, 3)}, {"y": np.ones((1, 1, 1, 1))})
    flat = w.ravel().astype(np.float64)
    parts = x * flat + 1.0 * np.maximum(flat, 0) - 2.0 * np.minimum(flat, 0)
    np.testing.assert_allclose(of["x"].ravel(), parts / parts.sum())
    require_conserved(model, found)


def test_gates_and_attention_get_nothing_and_other_factors_half() -> None:
    scale = {"scale": np.ones(8, np.float32), "two": np.array(2, np.float32)}
    model = sketch(BLOCK, opset=17, head=(8, 3), shift=8, **WEIGHTS, **scale).model
    x = np.random.default_rng(0).standard_normal((1, 5, 8))
    answer = np.zeros((1, 5, 3))
    answer[0, :, 1] = 0.2
    found, of = explained(model, {"x": x}, {"y": answer})
    assert not {"s", "p", "q", "k", "d", "t"} & of.keys()
    np.testing.assert_allclose(of["a"].sum(), of["v"].sum(), rtol=1e-4)
    np.testing.assert_allclose(of["n"], of["g"])
    require_conserved(model, found)


def test_a_trained_network_conserves_relevance() -> None:
    model = digits()
    normalise(model, record_of)
    x = np.random.default_rng(0).random((1, 1, 28, 28))
    (output,) = model.graph.outputs
    found, of = explained(model, {"image": x}, {output.name or "": np.eye(10)[3:4]})
    assert found.start == 1 and len(of) > 20
    require_conserved(model, found)
