"""Small graphs for tests of gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from tests.ops.exotic_graphs import Case, floats

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn" / "model.onnx"


def mlp(layers: int = 2) -> Case:
    """x -> MatMul -> Relu -> ... -> y, each layer's values called h0, r0, h1, ..."""
    nodes, last = [], "x"
    for at in range(layers):
        nodes += [("MatMul", [last, f"w{at}"], [f"h{at}"], {}), ("Tanh", [f"h{at}"], [f"r{at}"], {})]
        last = f"r{at}"
    nodes.append(("MatMul", [last, "w"], ["y"], {}))
    weights: dict[str, tuple[int, ...]] = {f"w{at}": (6, 6) for at in range(layers)}
    return Case("mlp", {"x": floats(4, 6)}, {**weights, "w": (6, 3)}, nodes, ["y"], [])


def residual(blocks: int, width: int, batch: int) -> Case:
    """Blocks of two products beside a residual stream."""
    nodes, last = [], "x"
    for at in range(blocks):
        nodes += [
            ("MatMul", [last, f"a{at}"], [f"h{at}"], {}),
            ("Sigmoid", [f"h{at}"], [f"s{at}"], {}),
            ("Mul", [f"h{at}", f"s{at}"], [f"m{at}"], {}),
            ("MatMul", [f"m{at}", f"b{at}"], [f"o{at}"], {}),
            ("Add", [last, f"o{at}"], [f"x{at}"], {}),
        ]
        last = f"x{at}"
    sizes = {f"a{at}": (width, 4 * width) for at in range(blocks)}
    weights = {
        name: 0.1 * floats(*shape, seed=number)
        for number, (name, shape) in enumerate(
            {**sizes, **{f"b{n}": (4 * width, width) for n in range(blocks)}}.items()
        )
    }
    return Case("residual", {"x": floats(batch, width)}, weights, nodes, [last], [])


def fed(case: Case) -> dict[str, np.ndarray]:
    """The inputs of a case."""
    return dict(case.feeds)


def digits() -> ir.Model:
    """The network that ships with the repository."""
    return ir.load(DIGITS)
