"""Mask passes that read gradients, against the authors' formulas in double precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.errors import ArgumentError
from graphprune.prune.masks.domain import Terms, domain_alignment, dual
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


def swept(u: Array, x: Array) -> Array:
    """W^2 / U_jj^2 of fewer columns than a block has, and so of the weights as they are."""
    gram = x.astype(np.float64).T @ x
    gram += 0.01 * np.diagonal(gram).mean() * np.eye(len(gram))
    upper = np.linalg.cholesky(np.linalg.inv(gram)).T
    return u.astype(np.float64) ** 2 / np.diagonal(upper)[:, None] ** 2


def dual_score(dense: ir.Model, x: Array, other: Array, strength: float) -> Array:
    u, g = weight(dense, "u").astype(np.float64), slopes(dense, x)
    general = swept(u, other)
    mean, square = g.mean(0), (g**2).mean(0)
    c = strength * abs(mean).mean() / (general * square).mean()
    felt = g + c * general * g**2
    return abs(u * felt.mean(0) - ((u * felt) ** 2).mean(0) / 2)


def of_matrix(scores: Array, gone: int) -> Array:
    return np.argsort(np.argsort(scores.ravel())).reshape(scores.shape) >= gone


def kept_beside(dense: ir.Model, text: str, x: Array, other: Array) -> Array:
    result = graphprune.compile(dense, text, calibration={"x": x}, general={"x": other})
    assert [row.role for row in result.report.data] == ["calibration", "general"]
    return weight(result.model, "u") != 0


@pytest.mark.parametrize("strength", [0.0, 0.1, 30.0])
def test_d_pruner_weighs_the_domain_against_all_else(strength: float) -> None:
    dense, x, other = net(), inputs(), 3 * inputs(40, seed=2)
    found = kept_beside(dense, f"d-pruner(ratio=0.5, strength={strength})", x, other)
    np.testing.assert_array_equal(found, of_matrix(dual_score(dense, x, other, strength), 12))


def test_d_pruner_without_general_importance_is_taylor_of_both_orders() -> None:
    dense, x, other = net(), inputs(), inputs(40, seed=2)
    u, g = weight(dense, "u").astype(np.float64), slopes(dense, x)
    plain = abs(u * g.mean(0) - u**2 * (g**2).mean(0) / 2)
    found = kept_beside(dense, "d-pruner(ratio=0.5, strength=0)", x, other)
    np.testing.assert_array_equal(found, of_matrix(plain, 12))
    quadratic = np.array([0.5, -1.0, 2.0])  # of L = sum h (w - w*)^2 / 2 with one sample: |g w - (g w)^2 / 2|
    known = {name: quadratic**at for at, name in enumerate(("mean", "square", "cube", "fourth"), 1)}
    w = np.array([1.0, 2.0, -1.0])
    told = dual(w, {**known, "general": np.zeros(3)}, 0.1)
    np.testing.assert_allclose(told, abs(quadratic * w - (quadratic * w) ** 2 / 2))


FISHER = {
    "root": lambda f: np.sqrt(f) / np.sqrt(f).mean(),
    "mean": lambda f: f / f.mean(),
    "raw": lambda f: f,
}


def importance_of(
    dense: ir.Model, x: Array, other: Array, fisher: str, alpha: float, beta: float, gamma: float
) -> Array:
    u = abs(weight(dense, "u").astype(np.float64))
    one, two = slopes(dense, x), slopes(dense, other)
    f, general = (FISHER[fisher]((each**2).mean(0)) for each in (one, two))
    a, b = one.mean(0), two.mean(0)  # [inputs, outputs]: rows of W are columns here
    cosine = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    return ((f - beta * general) * u + gamma * np.sqrt(u + 1e-8)) * (1 + alpha * cosine)


@pytest.mark.parametrize("fisher", FISHER)
@pytest.mark.parametrize("terms", [(0.2, 1.0, 0.5), (0.9, 0.3, 0.1), (0.0, 0.0, 0.0)])
def test_gaprune_is_domain_alignment_importance(fisher: str, terms: tuple[float, float, float]) -> None:
    dense, x, other = net(), inputs(), inputs(7, seed=2)
    text = "gaprune(ratio=0.5, budget=uniform, fisher={}, alpha={}, beta={}, gamma={})".format(fisher, *terms)
    wanted = of_matrix(importance_of(dense, x, other, fisher, *terms), 12)
    np.testing.assert_array_equal(kept_beside(dense, text, x, other), wanted)


def test_gaprune_of_two_like_sets_is_magnitude() -> None:
    dense, x = net(), inputs()
    found = kept_beside(dense, "gaprune(ratio=0.5, budget=uniform, beta=1)", x, x)
    np.testing.assert_array_equal(found, of_matrix(abs(weight(dense, "u")), 12))


def test_a_row_that_all_else_moves_the_other_way_scores_lower() -> None:
    draw = np.random.default_rng(0)
    w, g, f = draw.standard_normal((3, 4)), draw.standard_normal((3, 4)), draw.random((3, 4))
    known = {"mean": g, "square": f, "general mean": g.copy(), "general square": f}
    terms = Terms(0.2, 0.5, 0.5, "mean")
    before = domain_alignment(w, known, terms)
    known["general mean"][1] *= -1
    after = domain_alignment(w, known, terms)
    assert (after[1] < before[1]).all() and np.array_equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("text", ["d-pruner", "gaprune", "gaprune(budget=uniform)", "d-pruner(pattern=2:4)"])
def test_two_sets_mask_half_of_a_decoder(text: str) -> None:
    dense, other = decoder(), {"tokens": np.random.default_rng(5).integers(0, 11, (16, 12))}
    result = graphprune.compile(dense, text, calibration=tokens(), general=other)
    gone = sum(int((weight(result.model, name) == 0).sum()) for name in BODY)
    assert gone == sum(weight(dense, name).size for name in BODY) // 2
    with pytest.raises(ArgumentError, match="needs general samples") as error:
        graphprune.compile(dense, text, calibration=tokens())
    assert "general=" in error.value.hint
