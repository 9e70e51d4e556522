"""SynFlow (arXiv 2006.05467): what flows through every weight of a net of absolute weights, without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.gradients import gradients
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.clone import copy_model
from graphprune.ir.graphs import all_nodes
from graphprune.ops import has
from graphprune.ops.torch.call import Tensor
from graphprune.ops.traits import Trait

STRAIGHT = (
    Trait.ACTIVATION,
    Trait.TANH,
    Trait.CLIP,
    Trait.CHANNEL_NORM,
    Trait.WIDTH_NORM,
    Trait.OTHER_NORM,
    Trait.BATCH_NORM,
)
"""What hands its first input on: all numbers are positive, and a norm would undo every weight before it."""
OPEN = (Trait.SIGMOID, Trait.PROBABILITIES, Trait.LOG_PROBABILITIES)
"""What is one where it gates something, and hands its input on where it is an output."""


def synaptic_flow(model: ir.Model, feeds: Arrays, names: Sequence[str]) -> dict[str, Tensor]:
    """|w| * dR/d|w| by name of an initializer, with R the sum of all outputs (eq. 3).

    Args:
        model: any model.
        feeds: one sample, of which floating inputs are replaced by ones.
        names: of floating initializers.
    """
    straight, opened = straightened(model)
    net = Differentiable(straight, precision="float64")
    shifts = _shifts(straight)
    for name, tensor in net.parameters.items():
        tensor.zero_() if name in shifts else tensor.abs_()
    hooks = dict.fromkeys(opened, torch.ones_like)

    def total(outputs: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([found.sum() for found in outputs.values() if found.is_floating_point()]).sum()

    found = gradients(net, {name: _ones(array) for name, array in feeds.items()}, total, names, hooks)
    return {name: found[name] * net.parameters[name] for name in names}


def straightened(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """The model without what bends or normalises, and the names of values that are gates."""
    straight, opened = copy_model(model).model, []
    for node in list(all_nodes(straight.graph)):
        made, read = node.outputs[0], node.inputs[0] if node.inputs else None
        if read is None or not has(node, *STRAIGHT, *OPEN):
            continue
        if has(node, *OPEN) and not made.is_graph_output():
            opened.append(made.name or "")
        else:
            ir.convenience.replace_all_uses_with(made, read, replace_graph_outputs=True)
    return straight, opened


def _shifts(model: ir.Model) -> frozenset[str]:
    """Initializers that are added to something."""
    added = (Trait.CONVOLUTION, Trait.SPREAD, Trait.PRODUCT)
    return frozenset(
        name
        for name, value in model.graph.initializers.items()
        if any((has(node, *added) and at > 1) or has(node, Trait.SUM) for node, at in value.uses())
    )


def _ones(array: Array) -> Tensor:
    return torch.from_numpy(np.ones_like(array) if array.dtype.kind == "f" else np.array(array))
