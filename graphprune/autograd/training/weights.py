"""Which weights are trained, and in what form: zeros of masks stay, statistics are frozen, sharing stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.ir.weights import find_weights
from graphprune.ops import has, record_of
from graphprune.ops.torch.call import Tensor
from graphprune.ops.traits import LAYERS, Trait

NORMS = (Trait.BATCH_NORM, Trait.CHANNEL_NORM, Trait.WIDTH_NORM, Trait.OTHER_NORM)
VECTORS = (Trait.SUM, Trait.ADDS, Trait.AFFINE, Trait.MULTIPLY, Trait.SCALE, Trait.ACTIVATION)
STATISTICS = (3, 4)
"""Inputs of a BatchNormalization that training leaves: a variance that is trained may turn negative."""
LARGE = 4
"""A matrix is updated at low rank where each side is at least so many ranks."""


def trained(model: ir.Model, net: Differentiable) -> tuple[str, ...]:
    """Initializers of the main graph that are trained: weights of layers, tables, scales and shifts."""
    frozen = {
        value
        for node in model.graph
        if has(node, Trait.BATCH_NORM)
        for value in (node.inputs[at] for at in STATISTICS if at < len(node.inputs))
    }
    own = set(model.graph.initializers.values())
    names = [
        value.name or ""
        for value, weight in find_weights(model, record_of).items()
        if value in own - frozen and weight.size > 1 and any(_learns(*read, value) for read in weight.reads)
    ]
    return tuple(name for name in names if name in net.parameters)


def _learns(node: ir.Node, position: int, value: ir.Value) -> bool:
    if has(node, *LAYERS, Trait.SPREAD, *NORMS):
        return True
    if has(node, Trait.GATHER, Trait.LOOKUP):
        return position == 0
    shape = value.const_value.shape.numpy() if value.const_value is not None else ()
    return has(node, *VECTORS) and sum(size > 1 for size in shape) == 1


@dataclass(frozen=True)
class Update:
    """A matrix that is changed by a product of two leaves: w + mask * (left @ right)."""

    base: Tensor
    left: str
    right: str


@dataclass(eq=False)
class Weights:
    """What an optimiser changes.

    Attributes:
        leaves: by name, tensors with gradients: a weight itself, or the factors of its update.
        masks: by name of a weight, ones where it may differ from zero.
        updates: by name of a weight, its update at low rank.
        rows: by type, the memory of all its leaves as one vector: a step changes it, not each leaf.
    """

    leaves: dict[str, Tensor]
    masks: Mapping[str, Tensor]
    updates: Mapping[str, Update]
    rows: dict[str, Tensor] = field(default_factory=dict)
    _masks: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in dict.fromkeys(leaf.dtype for leaf in self.leaves.values()):
            names = [name for name, leaf in self.leaves.items() if leaf.dtype == kind]
            row = torch.cat([self.leaves[name].detach().reshape(-1) for name in names])
            masks = [self.masks.get(name, torch.ones_like(self.leaves[name])) for name in names]
            if any(name in self.masks for name in names):
                self._masks[str(kind)] = torch.cat([mask.reshape(-1) for mask in masks])
            place = 0
            for name in names:
                leaf = self.leaves[name]
                part = row[place : place + leaf.numel()]
                self.leaves[name] = part.view(leaf.shape).detach().requires_grad_()
                place += leaf.numel()
            self.rows[str(kind)] = row

    def take(self, gradients: Sequence[Tensor | None]) -> None:
        """Gradients of the leaves, in their order, as those of the rows; none where a mask is zero."""
        found = dict(zip(self.leaves, gradients, strict=True))
        for kind, row in self.rows.items():
            mine = [(leaf, found[name]) for name, leaf in self.leaves.items() if leaf.dtype == row.dtype]
            gradient = torch.cat(
                [(torch.zeros_like(leaf) if each is None else each).reshape(-1) for leaf, each in mine]
            )
            if kind in self._masks:
                gradient *= self._masks[kind]
            row.grad = gradient if row.grad is None else row.grad + gradient

    def whole(self) -> dict[str, Tensor]:
        """The weights by name, with their gradients' history."""
        found = {name: leaf for name, leaf in self.leaves.items() if "\0" not in name}
        return found | {name: self._merged(name, update) for name, update in self.updates.items()}

    def _merged(self, name: str, update: Update) -> Tensor:
        change = (self.leaves[update.left] @ self.leaves[update.right]).reshape(update.base.shape)
        return update.base + (change * self.masks[name] if name in self.masks else change)


def weights(net: Differentiable, names: Iterable[str], rank: int, seed: int) -> Weights:
    """The named weights of a net, ready to be trained.

    Args:
        net: holds their values.
        names: of initializers.
        rank: of the update of large matrices; 0 trains all weights themselves.
        seed: of the factors.
    """
    leaves: dict[str, Tensor] = {}
    masks, updates = {}, {}
    random = torch.Generator().manual_seed(seed)
    for name in names:
        value = net.parameters[name].detach().clone()
        if value.dim() > 1 and bool((value == 0).any()):
            masks[name] = (value != 0).to(value.dtype)
        rows, columns = value.shape[0], value[0].numel() if value.dim() else 1
        if rank and value.dim() > 1 and min(rows, columns) >= LARGE * rank:
            right = torch.randn(rank, columns, generator=random, dtype=value.dtype) / columns**0.5
            update = Update(value, f"{name}\0left", f"{name}\0right")
            leaves |= {update.left: value.new_zeros(rows, rank), update.right: right}
            updates[name] = update
        else:
            leaves[name] = value
    return Weights(leaves, masks, updates)
