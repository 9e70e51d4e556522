"""Scores and repair of models whose weights are stored on a grid."""

from __future__ import annotations

import numpy as np

from graphprune.axes import analyse
from graphprune.ir.normalise import normalise
from graphprune.prune.repair import repair
from tests.axes.exotic_graphs import Case, NodeRow, floats, unsigned

DYNAMIC_WEIGHTS = {
    "w1": unsigned(16, 48),
    "z1": np.array(128, np.uint8),
    "s1": np.array(0.01, np.float32),
    "w2": unsigned(48, 5),
    "z2": np.array(128, np.uint8),
    "s2": np.array(0.01, np.float32),
}


def dynamic_product(x: str, number: int, out: str) -> list[NodeRow]:
    """A product as dynamic quantisation writes it: integers inside, floats on both sides."""
    n = str(number)
    return [
        ("DynamicQuantizeLinear", [x], ["q" + n, "qs" + n, "qz" + n], {}),
        ("MatMulInteger", ["q" + n, "w" + n, "qz" + n, "z" + n], ["i" + n], {}),
        ("Cast", ["i" + n], ["f" + n], {"to": 1}),
        ("Mul", ["qs" + n, "s" + n], ["m" + n], {}),
        ("Mul", ["f" + n, "m" + n], [out], {}),
    ]


def dynamic_mlp() -> Case:
    nodes = [*dynamic_product("x", 1, "a"), ("Relu", ["a"], ["r"], {}), *dynamic_product("r", 2, "y")]
    return Case("dynamic", {"x": floats(64, 16)}, DYNAMIC_WEIGHTS, nodes, ["y"], [48])


def test_a_model_without_any_float_weight_is_repaired_as_far_as_it_goes() -> None:
    case = dynamic_mlp()
    model = case.model()
    normalise(model)
    analysis = analyse(model)
    made = repair(analysis, {g.id: tuple(range(24)) for g in analysis.prunable}, batches=[dict(case.feeds)])
    assert all(name in model.graph.initializers for name in made.replaced)
