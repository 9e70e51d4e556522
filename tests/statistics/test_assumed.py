"""Moments that follow from a BatchNormalization alone (docs/methods.md#moments-without-data)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from graphprune.axes import Analysis
from graphprune.statistics.assumed import assumed_gram
from graphprune.statistics.sites import find_sites
from tests.axes.claims import sketch

BODY = """(float[n,3,6,6] x) => (float[n,2,5,5] y) {{ a = Conv(x, w1)\n b = BatchNormalization(a, g, s, m, v)
    c = {activation}\n y = Conv(c, w2) }}"""
GAMMA, BETA = np.array([2.0, 0.5, 1.5], np.float32), np.array([0.3, -0.4, 1.0], np.float32)


def normed(activation: str, **more: object) -> Analysis:
    ones = np.ones(3, np.float32)
    return sketch(
        BODY.format(activation=activation),
        w1=(3, 3, 1, 1),
        g=GAMMA,
        s=BETA,
        m=ones,
        v=ones,
        w2=(2, 3, 2, 2),
        **more,
    )


def test_a_rectified_gaussian_has_its_closed_form_moments() -> None:
    site = find_sites(normed("Relu(b)").model)[1]
    gram = assumed_gram(site)
    assert gram is not None
    z = BETA / GAMMA
    below, density = ndtr(z), np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    mean = BETA * below + GAMMA * density
    square = (BETA**2 + GAMMA**2) * below + BETA * GAMMA * density
    np.testing.assert_allclose(gram.mean[0], np.repeat(mean, 4), rtol=1e-4)
    np.testing.assert_allclose(np.diagonal(gram.second[0]), np.repeat(square, 4), rtol=1e-4)
    assert gram.second[0, 0, 5] == pytest.approx(mean[0] * mean[1], rel=1e-4)  # independent channels


@pytest.mark.parametrize("activation", ["Clip(b, low, high)", "HardSwish(b)", "LeakyRelu(b)", "Sigmoid(b)"])
def test_other_activations_agree_with_a_sample(activation: str) -> None:
    bounds = (
        {"low": np.array(0, np.float32), "high": np.array(1.5, np.float32)} if "Clip" in activation else {}
    )
    gram = assumed_gram(find_sites(normed(activation, **bounds).model)[1])
    assert gram is not None
    x = BETA + GAMMA * np.random.default_rng(0).standard_normal((200_000, 3))
    functions = {
        "Clip(b, low, high)": lambda v: np.clip(v, 0, 1.5),
        "HardSwish(b)": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "LeakyRelu(b)": lambda v: np.where(v > 0, v, 0.01 * v),
        "Sigmoid(b)": lambda v: 1 / (1 + np.exp(-v)),
    }
    y = functions[activation](x)
    np.testing.assert_allclose(gram.mean[0, ::4], y.mean(0), atol=0.02)
    np.testing.assert_allclose(np.diagonal(gram.second[0])[::4], (y**2).mean(0), rtol=0.03)


def test_nothing_is_assumed_without_a_batch_norm() -> None:
    analysis = normed("MaxPool <kernel_shape = [1, 1]> (b)")
    assert [assumed_gram(site) for site in find_sites(analysis.model)] == [None, None]
