"""Samples run together only where each gets what it gets alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.autograd import Differentiable
from graphprune.autograd.training.stacks import Stack, stacked
from tests.proof.building import model

pytestmark = pytest.mark.zoo
RESHAPED = """(float[1,6] x) => (float[1,2,2] y) {{
    h = MatMul(x, w)
    s = Constant<value = int64[3] {{{sizes}}}>()
    y = Reshape(h, s)
}}"""
MEAN = """(float[n,6] x) => (float[n,4] y) {
    m = ReduceMean<axes = [0]>(x)
    h = Add(x, m)
    y = MatMul(h, w)
}"""
BODIES = {
    "rows": ("(float[n,6] x) => (float[n,4] y) {\ny = MatMul(x, w)\n}", {"x": 0}, "rows"),
    "rows behind a Transpose": (
        "(float[n,6] x) => (float[4,n] y) {\nh = MatMul(x, w)\ny = Transpose(h)\n}",
        {"x": 0},
        "rows",
    ),
    "rows along another axis": (RESHAPED.format(sizes="1, -1, 2"), {"x": 0}, "rows"),
    "a batch of one in a Reshape": (RESHAPED.format(sizes="1, 2, 2"), {"x": 0}, "mapped"),
    "a mean over samples": (
        MEAN,
        {"x": 0},
        "mapped",
    ),
    "feeds without an axis for samples": (
        "(float[5,6] x) => (float[5,4] y) {\ny = MatMul(x, w)\n}",
        {},
        "mapped",
    ),
    "shapes that depend on data": (
        "(float[1,6] x) => (float[m,n] y) {\nz = NonZero(x)\ny = Cast<to = 1>(z)\n}",
        {"x": 0},
        "alone",
    ),
}


def opened(text: str) -> ir.Model:
    return model(text, 17, **({"w": (6, 4)} if "w)" in text else {}))


@pytest.mark.parametrize("name", BODIES)
def test_together_gives_what_each_gives_alone(name: str) -> None:
    text, axes, how = BODIES[name]
    net = Differentiable(opened(text))
    rows = 1 if axes else 5
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((rows, 6)).astype(np.float32)} for _ in range(5)]

    def runs(feed: dict) -> dict:
        return net.run(feed)

    stack = stacked(runs, feeds, axes)
    assert stack.how == how
    if how == "alone":
        return
    singles = [
        {k: v.numpy() for k, v in Stack(axes).run(runs, Stack(axes).join([feed])).items()} for feed in feeds
    ]
    together, expected = stack.run(runs, stack.join(feeds))["y"], stack.answers(singles)["y"]
    assert together.shape == expected.shape
    np.testing.assert_allclose(together.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)
