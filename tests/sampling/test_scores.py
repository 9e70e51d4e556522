"""Closed forms against brute force, and figures worked out by hand (docs/methods.md#calibration-samples)."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.sampling.scores import norms, of_classes, of_tokens, plane, topsis


def softmax(logits):
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def gradient(weight, hidden, bias, answers):
    """G = mean over rows of (softmax(W h + b) - onehot) h^T."""
    delta = softmax(hidden @ weight.T + bias)
    delta[np.arange(len(hidden)), answers] -= 1
    return delta.T @ hidden / len(hidden)


def test_the_worked_example():
    hidden = np.array([[1.0, 0.0]])
    scores = of_classes(hidden, hidden @ np.eye(2), 0.0)
    don, nod = norms(scores, np.sqrt(2), rate=0.1)
    assert nod == pytest.approx(0.0380341, abs=1e-7)
    assert don == pytest.approx(0.0193955, abs=1e-7)
    assert np.exp(-scores.loss) == pytest.approx(0.731059, abs=1e-6)


def test_classes_equal_brute_force():
    rng = np.random.default_rng(1)
    weight, bias, hidden = rng.standard_normal((4, 6)), rng.standard_normal(4), rng.standard_normal((9, 6))
    product = hidden @ weight.T
    found = of_classes(hidden, product, bias)
    don, nod = norms(found, float(np.linalg.norm(weight)), rate=0.3)
    for row in range(9):
        answer = (product + bias)[row].argmax()
        step = 0.3 * gradient(weight, hidden[row : row + 1], bias, [answer])
        assert nod[row] == pytest.approx(np.linalg.norm(step))
        assert don[row] == pytest.approx(np.linalg.norm(weight - step) - np.linalg.norm(weight))
        chance = softmax(product[row] + bias)
        assert found.entropy[row] == pytest.approx(-(chance * np.log(chance)).sum())
        assert found.el2n[row] == pytest.approx(np.linalg.norm(chance - np.eye(4)[answer]))


def test_tokens_equal_brute_force():
    rng = np.random.default_rng(2)
    weight, hidden = rng.standard_normal((7, 5)), rng.standard_normal((12, 5))
    following = rng.integers(0, 7, 12)
    found = of_tokens(hidden, hidden @ weight.T, 0.0, following)
    don, nod = norms(found, float(np.linalg.norm(weight)), rate=0.2)
    step = 0.2 * gradient(weight, hidden, 0.0, following)
    assert nod[0] == pytest.approx(np.linalg.norm(step))
    assert don[0] == pytest.approx(np.linalg.norm(weight - step) - np.linalg.norm(weight))
    chance = softmax(hidden @ weight.T)[np.arange(12), following]
    assert found.loss[0] == pytest.approx(-np.log(chance).mean())


def test_the_default_rate_makes_a_median_step_a_hundredth_of_the_weight():
    rng = np.random.default_rng(3)
    hidden = rng.standard_normal((9, 6))
    scores = of_classes(hidden, hidden @ rng.standard_normal((6, 4)), 0.0)
    assert np.median(norms(scores, 5.0)[1]) == pytest.approx(0.05)


def test_topsis():
    rows = np.array([[0.02, 0.4], [0.01, 0.1], [0.05, 0.5]])
    assert topsis(rows) == pytest.approx([0.533483, 1.0, 0.0], abs=1e-6)
    assert topsis(np.ones((3, 2))) == pytest.approx([1, 1, 1])


def test_the_plane_keeps_sure_but_wrong_and_right_but_unsure():
    loss, entropy = np.array([9.0, 8, 1, 2, 5]), np.array([1.0, 8, 9, 2, 5])
    depth = plane(loss, entropy)
    assert set(np.argsort(depth, kind="stable")[:2]) == {0, 2}
    assert depth[1] > depth[4]
