"""Moments that a model implies without data: behind a BatchNormalization values are nearly Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Doubles
from graphprune.statistics.measures import Gram
from graphprune.statistics.sites import Site

Elementwise = Callable[[Doubles, ir.Node], Doubles]

GRID = np.linspace(-8, 8, 2001)
WEIGHTS = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()
"""Standard normal density on a grid, for moments of any elementwise function."""


def assumed_gram(site: Site) -> Gram | None:
    """Second moments of what a Site reads, if that is a BatchNormalization behind elementwise functions.

    The normalised value of channel c is N(beta_c, gamma_c^2) on data like the training data; channels and
    positions count as independent: diag(variance) + mean mean' (docs/methods.md#moments-without-data).
    """
    chain: list[ir.Node] = []
    value = site.edge
    while True:
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "BatchNormalization":
            break
        if node.op_type not in FUNCTIONS or node.inputs[0] is None:
            return None
        chain.append(node)
        value = node.inputs[0]
    gamma, beta = _constant(node, 1), _constant(node, 2)
    if gamma is None or beta is None:
        return None
    mean, variance = moments(beta, gamma, chain[::-1])
    return _gram(site, mean, variance)


def moments(beta: Doubles, gamma: Doubles, chain: list[ir.Node]) -> tuple[Doubles, Doubles]:
    """Mean and variance per channel of a chain of elementwise functions of N(beta, gamma^2)."""
    values = beta[:, None] + gamma[:, None] * GRID
    for node in chain:
        values = FUNCTIONS[node.op_type](values, node)
    mean = values @ WEIGHTS
    return mean, np.maximum((values**2) @ WEIGHTS - mean**2, 0)


def _gram(site: Site, mean: Doubles, variance: Doubles) -> Gram | None:
    columns = site.blocks * site.columns
    if len(mean) * site.column_span != columns:
        return None
    means = np.repeat(mean, site.column_span).reshape(site.blocks, -1)
    spread = np.repeat(variance, site.column_span).reshape(site.blocks, -1)
    return Gram(1.0, means, np.stack([np.diag(block) for block in spread]))


def _constant(node: ir.Node, position: int) -> Doubles | None:
    value = node.inputs[position]
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy(), np.float64)


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _clip(values: Doubles, node: ir.Node) -> Doubles:
    bounds = [
        _constant(node, p) if p < len(node.inputs) and node.inputs[p] is not None else None for p in (1, 2)
    ]
    low, high = (None if bound is None else float(bound.ravel()[0]) for bound in bounds)
    low = _number(node, "min", -np.inf) if low is None else low
    high = _number(node, "max", np.inf) if high is None else high
    return np.clip(values, low, high)


def _hard_swish(values: Doubles, node: ir.Node) -> Doubles:
    return np.asarray(values * np.clip(values / 6 + 0.5, 0, 1))


def _leaky(values: Doubles, node: ir.Node) -> Doubles:
    return np.where(values > 0, values, _number(node, "alpha", 0.01) * values)


FUNCTIONS: dict[str, Elementwise] = {
    "Relu": lambda values, node: np.maximum(values, 0),
    "Clip": _clip,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Identity": lambda values, node: values,
    "Dropout": lambda values, node: values,
    "Sigmoid": lambda values, node: 1 / (1 + np.exp(-values)),
    "Tanh": lambda values, node: np.tanh(values),
}
