"""What an output's numbers are follows from the node that gives them their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.outputs import Judged, UserKind, judged
from tests.proof.building import model

W, ONE, THREE = (6, 4), (4, 6, 1, 1), (4, 6, 3, 3)


def read(text: str, opset: int = 18, chosen: dict[str, UserKind] | None = None, **weights: object) -> Judged:
    (found,) = judged(model(text, opset, **weights), None, chosen)
    return found


VECTOR, MAP = "(float[n,6] x)", "(float[n,6,8,8] x)"
CLASSES = {
    "a softmax": (f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) y = Softmax(a) }}", "probabilities", 1),
    "a softmax written out": (
        f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) m = ReduceMax<keepdims=1>(a, s1) d = Sub(a, m)"
        " e = Exp(d) t = ReduceSum<keepdims=1>(e, s1) y = Div(e, t) }", "probabilities", 1),
    "a softmax by a reciprocal": (
        f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) e = Exp(a) t = ReduceSum<keepdims=1>(e, s1)"
        " r = Reciprocal(t) y = Mul(r, e) }", "probabilities", 1),
    "its logarithm written out": (
        f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) e = Exp(a) t = ReduceSum<keepdims=1>(e, s1)"
        " r = Log(t) y = Sub(a, r) }", "log", 1),
    "its logarithm": (f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) y = LogSoftmax(a) }}", "log", 1),
    "a last product": (f"{VECTOR} => (float[n,4] y) {{ y = MatMul(x, w) }}", "logits", 1),
    "with a bias": (f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) y = Add(a, bias) }}", "logits", 1),
    "a Sum with a bias": (f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) y = Sum(a, bias) }}", "logits", 1),
    "a soft cap": (
        f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) d = Div(a, two) t = Tanh(d) y = Mul(t, two) }}",
        "logits", 1),
    "a Gemm": (f"{VECTOR} => (float[n,4] y) {{ y = Gemm(x, w, bias) }}", "logits", 1),
    "a 1x1 Conv": (f"{MAP} => (float[n,4,8,8] y) {{ y = Conv(x, one) }}", "logits", 1),
    "classes moved last": (
        f"{MAP} => (float[n,8,8,4] y) {{ a = Conv(x, one) y = Transpose<perm=[0,2,3,1]>(a) }}", "logits", 3),
    "flattened pixels": (
        f"{MAP} => (float[n,4,64] y) {{ a = Conv(x, one) y = Reshape(a, flat) }}", "logits", 1),
    "a softmax over channels": (
        f"{MAP} => (float[n,6,8,8] y) {{ y = Softmax<axis=1>(x) }}", "probabilities", 1),
    "quantised and back": (
        f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) q = QuantizeLinear(a, s, z) "
        "y = DequantizeLinear(q, s, z) }", "logits", 1),
}  # fmt: skip
OTHERS = {
    "a sigmoid": (f"{MAP} => (float[n,6,8,8] y) {{ y = Sigmoid(x) }}", "scores"),
    "scores picked": (f"{MAP} => (float[n,2,8,8] y) {{ a = Sigmoid(x) y = Slice(a, s0, s2, s1) }}", "scores"),
    "object times class": (
        f"{MAP} => (float[n,6,8,8] y) {{ a = Sigmoid(x) b = Neg(x) c = Sigmoid(b) y = Mul(a, c) }}",
        "scores"),
    "the least of a softmax": (
        f"{VECTOR} => (float[n,1] y) {{ a = Softmax(x) y = ReduceMin<axes=[1]>(a) }}", "scores"),
    "one class of a softmax": (
        f"{VECTOR} => (float[n,2] y) {{ a = Softmax(x) y = Slice(a, s0, s2, s1) }}", "scores"),
    "SiLU": (f"{MAP} => (float[n,6,8,8] y) {{ a = Sigmoid(x) y = Mul(a, x) }}", "values"),
    "boxes from a sigmoid": (f"{VECTOR} => (float[n,6] y) {{ a = Sigmoid(x) y = Mul(a, two) }}", "values"),
    "boxes beside scores": (
        f"{MAP} => (float[n,12,8,8] y) {{ a = Sigmoid(x) b = Relu(x) y = Concat<axis=1>(a, b) }}", "values"),
    "a 3x3 Conv": (f"{MAP} => (float[n,4,6,6] y) {{ y = Conv(x, three) }}", "values"),
    "one column": (f"{VECTOR} => (float[n,1] y) {{ y = MatMul(x, column) }}", "values"),
    "actions": (f"{VECTOR} => (float[n,4] y) {{ a = Gemm(x, w, bias) y = Tanh(a) }}", "values"),
    "scaled actions": (
        f"{VECTOR} => (float[n,4] y) {{ a = Gemm(x, w, bias) t = Tanh(a) y = Mul(t, two) }}", "values"),
    "hidden states": (f"{VECTOR} => (float[n,4] y) {{ a = MatMul(x, w) y = Relu(a) }}", "values"),
    "exponentials over another sum": (
        f"{VECTOR} => (float[n,6] y) {{ e = Exp(x) t = ReduceSum<keepdims=1>(x, s1) y = Div(e, t) }}",
        "values"),
    "exponentials over the sum of all": (
        f"{VECTOR} => (float[n,6] y) {{ e = Exp(x) t = ReduceSum<keepdims=1>(e) y = Div(e, t) }}", "values"),
    "an index": (f"{VECTOR} => (int64[n] y) {{ y = ArgMax<axis=1,keepdims=0>(x) }}", "exact"),
    "a softmax over many axes at once": (f"{MAP} => (float[n,6,8,8] y) {{ y = Softmax(x) }}", "values"),
}  # fmt: skip
WEIGHTS: dict[str, object] = {
    "w": W, "bias": (4,), "one": ONE, "three": THREE, "column": (6, 1), "two": np.array([2.0], np.float32),
    "s": np.array(0.1, np.float32), "z": np.array(0, np.int8), "flat": np.array([0, 4, -1]),
    "s0": np.array([0]), "s1": np.array([1]), "s2": np.array([2]),
}  # fmt: skip


def weights_of(text: str) -> dict[str, object]:
    words = set("".join(c if c.isalnum() else " " for c in text).split())
    return {name: value for name, value in WEIGHTS.items() if name in words}


@pytest.mark.parametrize("what", CLASSES)
def test_classes_are_found_with_their_axis_and_scale(what: str) -> None:
    text, scale, axis = CLASSES[what]
    found = read(text, **weights_of(text))
    assert (found.kind, found.scale, found.axis) == ("classes", scale, axis)


@pytest.mark.parametrize("what", OTHERS)
def test_other_outputs_are_not_taken_for_classes(what: str) -> None:
    text, kind = OTHERS[what]
    opset = 11 if what == "a softmax over many axes at once" else 17 if "least" in what else 18
    assert read(text, opset, **weights_of(text)).kind == kind


LANGUAGE = """(int64[b,t] ids) => (float[b,t,7] y) {
    a = Gather(table, ids) h = Relu(a) y = MatMul(h, head)
}"""


def test_logits_over_the_vocabulary_that_the_input_indexes_are_next_tokens() -> None:
    found = read(LANGUAGE, table=(7, 6), head=(6, 7))
    assert (found.kind, found.tokens, found.loose) == ("tokens", "ids", True)
    other = read(LANGUAGE.replace("float[b,t,7]", "float[b,t,5]"), table=(7, 6), head=(6, 5))
    assert other.kind == "classes"


def test_the_user_knows_better() -> None:
    text = f"{VECTOR} => (float[n,4] y) {{ y = MatMul(x, w) }}"
    assert read(text, chosen={"y": "values"}, w=W).kind == "values"
    scores = read(text, chosen={"y": "scores"}, w=W)
    assert (scores.kind, scores.scale) == ("scores", "logits")
    relu = f"{VECTOR} => (float[n,6] y) {{ y = Relu(x) }}"
    assert read(relu, chosen={"y": "classes"}).scale == "logits"


def test_a_cache_is_not_judged() -> None:
    text = """(float[n,t,6] x, float[n,p,6] past) => (float[n,t,4] y, float[n,q,6] present) {
        present = Concat<axis=1>(past, x) y = MatMul(x, w)
    }"""
    assert [item.name for item in judged(model(text, 18, w=W))] == ["y"]
