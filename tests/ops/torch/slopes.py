"""Gradients against finite differences, in double precision, along random directions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from graphprune.ir.nodes import operator_of

STEP = 1e-6
DIFFERENTIABLE = {"Clip", "Pow", "Pad"}
"""Operators that read an input as a plain number only while it has no gradient."""


def _plain_numbers(model: ir.Model) -> Iterator[str]:
    """Values that are scales of a Resize, axes and the like: no gradient is due in them."""
    from graphprune.ops.torch import TABLE

    for node in model.graph:
        row = None if node.op_type in DIFFERENTIABLE else TABLE.get(operator_of(node))
        for at in () if row is None else row.host:
            if at < len(node.inputs) and node.inputs[at] is not None:
                yield node.inputs[at].name or ""  # type: ignore[union-attr]


def slopes_agree(
    model: ir.Model, feeds: Mapping[str, np.ndarray], seed: int = 0, tolerance: float = 1e-5
) -> int:
    """Asserts that gradients in every floating input and initializer are what finite differences say.

    Returns how many tensors have a gradient that is not zero.
    """
    import torch

    from graphprune.autograd import Differentiable
    from graphprune.autograd.tensors import from_array

    net = Differentiable(model, precision="float64")
    draw = torch.Generator().manual_seed(seed)
    kinds = {name: ir.DataType.from_numpy(array.dtype) for name, array in feeds.items()}
    held = {name: from_array(array, kinds[name]) for name, array in feeds.items()}
    fixed = set(_plain_numbers(model))
    floating = {**held, **net.parameters}
    point = {n: t.detach().double() for n, t in floating.items() if t.is_floating_point() and n not in fixed}
    weights: dict[str, torch.Tensor] = {}

    def value(at: Mapping[str, torch.Tensor]) -> torch.Tensor:
        parameters = {name: tensor for name, tensor in at.items() if name in net.parameters}
        given = {name: at.get(name, tensor) for name, tensor in held.items()}
        found = net.run(given, parameters=parameters)
        total = torch.zeros((), dtype=torch.float64)
        for name, result in found.items():
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                if name not in weights:
                    weights[name] = torch.randn(result.shape, generator=draw, dtype=torch.float64)
                total = total + (weights[name] * result.double()).sum()
        return total

    leaves = {name: tensor.clone().requires_grad_() for name, tensor in point.items()}
    whole = value(leaves)
    if not whole.requires_grad or not leaves:
        return 0
    grads = torch.autograd.grad(whole, list(leaves.values()), allow_unused=True)
    live = 0
    for (name, tensor), grad in zip(point.items(), grads, strict=True):
        direction = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
        ahead = value({**point, name: tensor + STEP * direction})
        behind = value({**point, name: tensor - STEP * direction})
        expected = float((ahead - behind) / (2 * STEP))
        found = 0.0 if grad is None else float((grad * direction).sum())
        scale = max(abs(expected), abs(found), 1e-3 * float(whole.abs()), 1e-3)
        assert math.isfinite(expected)
        assert abs(expected - found) <= tolerance * scale + 1e-8, (name, expected, found)
        live += bool(found)
    return live
