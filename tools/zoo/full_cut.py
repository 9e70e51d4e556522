"""What the groups of a model cover, and what a cut of every internal width would leave."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes import Analysis, Group, Slice

WEIGHT_OPS = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "MatMulNBits",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MoE",
    )
)
"""Operators whose weights have widths; an axis that only meets other operators counts positions or words."""

INTERFACE = ("graph input", "graph output", "Conv fixes it", "ConvTranspose fixes it")
"""How pins from the model's inputs and outputs begin; a convolution fixes the spatial axes of its input."""

Owners = dict[tuple[str, int], list[tuple["Group", "Slice"]]]


def is_interface(group: Group) -> bool:
    """Whether the group's width belongs to the model's inputs or outputs, so that nobody could cut it."""
    return group.pin is not None and group.pin.reason.startswith(INTERFACE)


def is_width(group: Group) -> bool:
    """Whether the group is a width of the network: some weight of a contraction has it as an axis."""
    return any(s.use.node.op_type in WEIGHT_OPS and s.role in ("source", "sink") for s in group.slices)


def floating_initializers(model: ir.Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every stored floating tensor with elements."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point() and tensor.size:
                yield name, tuple(tensor.shape.numpy())


def _owners(analysis: Analysis) -> Owners:
    owners: Owners = {}
    for group in analysis.groups:
        for touched in group.slices:
            owners.setdefault((touched.initializer, touched.axis), []).append((group, touched))
    return owners


def _slots(owners: list[tuple[Group, Slice]], size: int) -> np.ndarray:
    """Marks the slots of an axis of `size` that any of the slices owns."""
    marked = np.zeros(size, bool)
    for _, touched in owners:
        marked[touched.pairs[1] % size] = True  # the inner axis of a grouped weight repeats over its blocks
    return marked


def prunable_share(analysis: Analysis) -> float:
    """Share of parameters with at least one axis slot in a group that may shrink."""
    owners = _owners(analysis)
    total, covered = 0, 0.0
    for name, shape in floating_initializers(analysis.model):
        free = 1.0
        for axis, size in enumerate(shape):
            mine = [owner for owner in owners.get((name, axis), []) if owner[0].pin is None]
            free *= 1.0 - float(_slots(mine, size).mean())
        total += prod(shape)
        covered += prod(shape) * (1.0 - free)
    return covered / total if total else 0.0


def full_cut(analysis: Analysis, ratio: float = 0.5) -> int:
    """Parameters left when every width but the interface's loses `ratio` of its slots, pinned ones too.

    Each axis of a floating initializer keeps its interface slots and those that are no width, and
    ceil of (1 - ratio) of the rest. A product of widths (heads times head size) is cut once, as one axis.
    """
    owners = _owners(analysis)
    kept = 0
    for name, shape in floating_initializers(analysis.model):
        sizes = [_kept_slots(owners.get((name, axis), []), size, ratio) for axis, size in enumerate(shape)]
        kept += prod(sizes)
    return kept


def _kept_slots(owners: list[tuple[Group, Slice]], size: int, ratio: float) -> int:
    widths = [owner for owner in owners if is_width(owner[0])]
    interface = _slots([owner for owner in widths if is_interface(owner[0])], size)
    cut = int((_slots(widths, size) & ~interface).sum())
    return size - cut + ceil((1 - ratio) * cut)
