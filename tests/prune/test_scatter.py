"""Weights of a cut model go back to where they were cut from."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.prune.scatter import scattered
from tests.proof.building import model

GRAPHS = {
    "products": (
        "(float[n,6] x) => (float[n,4] y) {\na = MatMul(x, w)\nb = Relu(a)\ny = MatMul(b, v)\n}",
        {"w": (6, 8), "v": (8, 4)},
    ),
    "grouped convolution": (
        """(float[n,3,5,5] x) => (float[n,4,5,5] y) {
            a = Conv(x, w)
            b = Conv<group = 2>(a, u)
            y = Conv(b, v)
        }""",
        {"w": (8, 3, 1, 1), "u": (8, 4, 1, 1), "v": (4, 8, 1, 1)},
    ),
    "root mean square": (
        """(float[n,6] x) => (float[n,4] y) {
            a = MatMul(x, w)
            b = RMSNormalization(a, g)
            y = MatMul(b, v)
        }""",
        {"w": (6, 8), "g": (8,), "v": (8, 4)},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_way_back_ends_where_the_way_there_began(name: str) -> None:
    text, shapes = GRAPHS[name]
    analysis = analyse(model(text, 23, **shapes))
    groups = analysis.prunable
    cuts = {group.id: tuple(range(0, group.size, 2)) for group in groups}
    plan = Plan(analysis.options, cuts, {group.id: group.size for group in groups})
    assert cuts
    small = rewrite(analysis.model, analysis, plan)
    random = np.random.default_rng(0)
    trained = {
        name: random.standard_normal(value.const_value.shape.numpy()).astype(np.float32)
        for name, value in small.graph.initializers.items()
        if name in shapes
    }
    dense = scattered(analysis, plan, trained)
    assert dense is not None
    again = rewrite(analysis.model, analysis, Plan(analysis.options, cuts, plan.widths, replaced=dense))
    for name, array in trained.items():
        found = again.graph.initializers[name].const_value.numpy()
        np.testing.assert_allclose(found, array, rtol=1e-6)


def test_a_tensor_of_another_shape_is_no_cut() -> None:
    text, shapes = GRAPHS["products"]
    analysis = analyse(model(text, 23, **shapes))
    assert scattered(analysis, Plan(), {"w": np.zeros((6, 5), np.float32)}) is None
    assert scattered(analysis, Plan(), {"graphprune/w/0": np.zeros((6, 8), np.float32)}) is None
