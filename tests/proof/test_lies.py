"""Hand-made wrong models: every kind of lie, in every place, is caught before anything is run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Options
from graphprune.proof.biases import undeclared
from graphprune.proof.certificate import certify
from graphprune.proof.declared import declare
from graphprune.proof.pairing import pair
from graphprune.proof.survivors import Survivors
from graphprune.prune.bias import with_biases

from .building import Case, cut, model
from .lies import lies

CASES: dict[str, Case] = {
    "convolutions": cut(model(
        """(float[n,3,8,8] x) => (float[n,5,8,8] y) {
            [first] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            [norm] c = BatchNormalization <epsilon = 0.01> (a, gamma, beta, mean, var)
            [act] d = LeakyRelu <alpha = 0.1> (c)
            [depth] e = Conv <group = 8, pads = [1, 1, 1, 1]> (d, w2)
            [last] y = Conv(e, w3) }""",
        w1=(8, 3, 3, 3), b1=(8,), gamma=(8,), beta=(8,), mean=(8,), var=np.linspace(1, 2, 8).astype("f"),
        w2=(8, 1, 3, 3), w3=(5, 8, 1, 1),
    )),
    "blocks": cut(model(
        """(float[n,3,8,8] x) => (float[n,5,6,6] y) { [first] a = Conv(x, w1)
            [mid] b = Conv <group = 2> (a, w2)\n [last] y = Conv(b, w3) }""",
        w1=(8, 3, 1, 1), w2=(12, 4, 3, 3), w3=(5, 12, 1, 1),
    )),
    "split and compensated": cut(model(
        """(float[n,6] x) => (float[n,4] y) { [wide] a = MatMul(x, w1)
            [norm] r = RMSNormalization <epsilon = 0.1> (a, gamma)
            [split] b, c = Split <axis = 1> (r, sizes)\n [act] d = Sigmoid(b)
            [gate] e = Mul(d, c)\n [last] y = MatMul(e, w2) }""",
        opset=23, w1=(6, 12), gamma=(12,), w2=(6, 4), sizes=np.array([6, 6]),
    )),
    "a branch": cut(model(
        """(float[n,6] x, bool c) => (float[n,4] y) { [wide] a = MatMul(x, w1)
            [choice] y = If (c) <then_branch = t () => (float[n,4] p) { [one] p = MatMul(a, w2) },
                else_branch = e () => (float[n,4] q) { [two] h = Elu <alpha = 0.5> (a)
                    [three] q = MatMul(h, w3) }> }""",
        w1=(6, 8), w2=(8, 4), w3=(8, 4),
    )),
    "a recurrent cell": cut(model(
        """(float[5,n,3] x) => (float[5,n,4] y) { [up] u = MatMul(x, w0)
            [cell] s = GRU <hidden_size = 6> (u, w, r, b)\n [flat] f = Squeeze(s, one)
            [last] y = MatMul(f, v) }""",
        w0=(3, 8), w=(1, 18, 8), r=(1, 18, 6), b=(1, 36), one=np.array([1]), v=(6, 4),
    )),
}  # fmt: skip

HARMLESS = {"last bit of gamma", "name of graphprune/bias/1"}
"""A compensated weight is rounded twice, and what a node is called that was inserted is free."""


def caught(case: Case, false: ir.Model) -> bool:
    """Whether the certificate says that something is wrong."""
    survivors = Survivors(case.analysis, case.plan)
    declared = declare(survivors)
    return bool(certify(survivors, declared, pair(case.dense, false, declared)).differences)


@pytest.mark.parametrize("name", CASES)
def test_no_lie_about_a_cut_goes_unnoticed(name: str) -> None:
    case = CASES[name]
    assert not caught(case, case.pruned), "the truth is believed"
    told = list(lies(case.pruned))
    believed = {what: false for what, false in told if not caught(case, false)}
    assert set(believed) <= HARMLESS | {"type of graphprune/split/1"}
    assert not any(case.prove(false).ok for what, false in believed.items() if what not in HARMLESS)


def test_no_lie_about_an_expanded_norm_goes_unnoticed() -> None:
    """The nodes that stand for it are judged by a run; what stands around them is not."""
    dense = model(
        "(float[n,6] x) => (float[n,4] y) { [wide] a = MatMul(x, w1)\n"
        " [norm] b = LayerNormalization(a, g, s)\n [act] c = Relu(b)\n [last] y = MatMul(c, w2) }",
        w1=(6, 8), g=(8,), s=(8,), w2=(8, 4),
    )  # fmt: skip
    case = cut(dense, Options(layernorm="expand"))
    assert not caught(case, case.pruned)
    for what, false in lies(case.pruned):
        if not what.partition(" of ")[2].startswith("graphprune/"):
            assert caught(case, false) or not case.prove(false).ok, what


BIASED = {
    "conv": (
        "(float[n,3,4,4] x) => (float[n,4,4,4] y) { [c] a = Conv(x, w, b)\n [r] y = Elu <alpha = 0.5> (a) }",
        {"w": (4, 3, 1, 1), "b": (4,)},
    ),
    "matmul": (
        "(float[n,6] x) => (float[n,4] y) { [m] a = MatMul(x, w)\n [r] d = Relu(a)\n [s] y = Sub(d, a) }",
        {"w": (6, 4)},
    ),
    "matmul and add": (
        "(float[n,6] x) => (float[n,4] y) { [m] a = MatMul(x, w)\n [b] c = Add(a, b)\n [r] y = Relu(c) }",
        {"w": (6, 4), "b": (4,)},
    ),
}


@pytest.mark.parametrize("name", BIASED)
def test_no_lie_about_a_bias_goes_unnoticed(name: str) -> None:
    body, weights = BIASED[name]
    dense, biases = model(body, **weights), {"a": np.array([1, -2, 3, 0.5], np.float32)}
    true = with_biases(dense, biases)
    assert not undeclared(dense, true, biases)
    told = list(lies(true))
    believed = {what for what, false in told if not undeclared(dense, false, biases)}
    assert believed <= HARMLESS | {"type of graphprune/bias/2"}, "ONNX Runtime refuses sums of two types"
