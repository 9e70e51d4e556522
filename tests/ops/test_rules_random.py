"""Operators that draw random numbers: what they draw depends on the shape, so a cut would change all."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from tests.axes.claims import pins, proves, sketch, units

CONSTANTS = {"half": np.array(0.5, np.float32), "on": np.array(True), "off": np.array(False)}


def chain(node: str) -> Analysis:
    """A width of 6 that a node passes on."""
    body = f"""(float[n,3] x) => (float[n,2] y) {{ a = MatMul(x, w1)
        s = Sigmoid(a)\n b = {node}\n y = MatMul(b, w2) }}"""
    used = {name: value for name, value in CONSTANTS.items() if name in node}
    return sketch(body, w1=(3, 6), w2=(6, 2), **used)


@pytest.mark.parametrize(
    "node", ["Bernoulli <seed = 3.0> (s)", "RandomNormalLike (s)", "Dropout <seed = 3> (s, half, on)"]
)
def test_the_width_of_what_is_drawn_stays(node: str) -> None:
    found = chain(node)
    assert units(found) == []
    assert any("random operator" in why for why in pins(found).values())


@pytest.mark.parametrize("node", ["Dropout (s)", "Dropout (s, half)", "Dropout (s, half, off)"])
def test_dropout_that_is_off_is_an_identity(node: str) -> None:
    found = chain(node)
    assert units(found) == [6]
    proves(found)
