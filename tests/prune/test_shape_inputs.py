"""Inputs that spell out sizes: those read from a Shape while the model runs follow a cut by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.runtime.session import open_session
from tests.axes.claims import cut, sketch

TWICE = "h = Gather(s, first)\n t = Concat <axis = 0> (s, h)\n p = Gather(t, order)\n c = Reshape(b, p)"


@pytest.mark.parametrize("way", ["p = Gather(s, order)\n c = Reshape(b, p)", "c = Reshape(b, s)", TWICE])
def test_a_shape_that_is_read_while_the_model_runs_is_not_corrected(way: str) -> None:
    analysis = sketch(
        f"(float[n,4] x) => (float[n,3] y) {{ a = MatMul(x, u)\n s = Shape(a)\n b = Relu(a)\n {way}\n "
        "y = MatMul(c, v) }",
        u=(4, 6),
        v=(6, 3),
        **({"order": np.array([2, 1] if way == TWICE else [0, 1])} if "order" in way else {}),
        **({"first": np.array([0])} if way == TWICE else {}),
    )
    small = cut(analysis, u=(0, 2, 5))
    assert len(list(small.graph)) == len(list(analysis.model.graph))
    (found,) = open_session(small).run({"x": np.ones((2, 4), np.float32)}).values()
    assert found.shape == (2, 3)
