"""What activations compute, in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Doubles
from graphprune.ir.domains import is_default

Function = Callable[[Doubles], Doubles]


def function_of(node: ir.Node) -> Function | None:
    """The function of a node that works element by element, None where it has none here."""
    found = FUNCTIONS.get(node.op_type) if is_default(node.domain) else None
    return None if found is None else lambda values: found(values, node)


def constant_of(node: ir.Node, position: int) -> Doubles | None:
    """The numbers of a constant input."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy(), np.float64)


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _clip(values: Doubles, node: ir.Node) -> Doubles:
    bounds = (constant_of(node, position) for position in (1, 2))
    low, high = (None if bound is None else float(bound.ravel()[0]) for bound in bounds)
    low = _number(node, "min", -np.inf) if low is None else low
    high = _number(node, "max", np.inf) if high is None else high
    return np.clip(values, low, high)


def _hard_swish(values: Doubles, node: ir.Node) -> Doubles:
    return np.asarray(values * np.clip(values / 6 + 0.5, 0, 1))


def _leaky(values: Doubles, node: ir.Node) -> Doubles:
    return np.where(values > 0, values, _number(node, "alpha", 0.01) * values)


FUNCTIONS: dict[str, Callable[[Doubles, ir.Node], Doubles]] = {
    "Relu": lambda values, node: np.maximum(values, 0),
    "Clip": _clip,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Identity": lambda values, node: values,
    "Dropout": lambda values, node: values,
    "Sigmoid": lambda values, node: 1 / (1 + np.exp(-values)),
    "Tanh": lambda values, node: np.tanh(values),
}
