"""Mask passes that read gradients, against the authors' formulas in double precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError
from tests.axes.claims import weight
from tests.proof.building import model

from .mask_graphs import BODY, compiled, conv_net, decoder, images, tokens, zeros

pytestmark = pytest.mark.zoo

NET = """(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n b = Tanh(a)\n y = MatMul(b, w) }"""
Array = np.ndarray


def net() -> ir.Model:
    return model(NET, u=(4, 6), w=(6, 3))


def inputs(samples: int = 5, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((samples, 4)).astype(np.float32)


def slopes(dense: ir.Model, x: Array) -> Array:
    """Gradients of -log p of the likeliest class in u, [samples, 4, 6]."""
    u, w = (weight(dense, name).astype(np.float64) for name in ("u", "w"))
    b = np.tanh(x @ u)
    y = b @ w
    p = np.exp(y - y.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    dy = p - np.eye(3)[p.argmax(1)]
    da = dy @ w.T * (1 - b**2)
    return np.einsum("ni,nj->nij", x.astype(np.float64), da)


def kept(dense: ir.Model, text: str, x: Array) -> Array:
    return weight(graphprune.compile(dense, text, calibration={"x": x}).model, "u") != 0


def of_rows(scores: Array, gone: int) -> Array:
    """All but the lowest so many inputs of every output, [inputs, outputs]."""
    return np.argsort(np.argsort(scores, axis=0), axis=0) >= gone


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_gblm_adds_the_norm_of_the_gradient_to_that_of_the_input(norm: str) -> None:
    dense, x = net(), inputs()
    u, g = abs(weight(dense, "u").astype(np.float64)), 100 * slopes(dense, x)
    felt = np.sqrt((g**2).sum(0)) if norm == "l2" else abs(g).sum(0)
    fed = np.sqrt((x.astype(np.float64) ** 2).sum(0) / len(x))[:, None]
    text = f"gblm(ratio=0.5, alpha=100, norm={norm}, relative=false)"
    np.testing.assert_array_equal(kept(dense, text, x), of_rows(u * (fed + felt), 2))
    relative = u * (fed / fed.mean() + felt / felt.mean())
    np.testing.assert_array_equal(kept(dense, f"gblm(ratio=0.5, norm={norm})", x), of_rows(relative, 2))


def test_gblm_without_gradients_is_wanda() -> None:
    dense, x = net(), inputs()
    np.testing.assert_array_equal(kept(dense, "gblm(alpha=0)", x), kept(dense, "wanda", x))
    with pytest.raises(ArgumentError, match="alpha"):
        graphprune.compile(dense, "gblm(alpha=-1)", calibration={"x": x})


@pytest.mark.parametrize("text", ["gblm", "gblm(pattern=2:4)", "gblm(norm=l1, driver=oneshot)"])
def test_half_of_a_decoder_goes_and_is_proved(text: str) -> None:
    dense = decoder()
    result = compiled(dense, text, tokens())
    gone = sum(int((weight(result.model, name) == 0).sum()) for name in BODY)
    assert gone == sum(weight(dense, name).size for name in BODY) // 2


def test_gradients_lie_as_weights_of_convolutions_do() -> None:
    result = compiled(conv_net(), "gblm(ratio=0.4)", images())
    assert all(0 < zeros(result, name) < 0.75 for name in ("stem", "main", "depth", "point", "up"))
