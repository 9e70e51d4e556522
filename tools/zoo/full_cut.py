"""What the groups of a model cover, and what a cut of every internal width would leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

WHOLE = "so many whole Units must stay"
"""Why a group that may shrink keeps more than its share."""

Owners = dict[tuple[str, int], list[tuple["Group", "Slice"]]]


def interface(analysis: Analysis) -> frozenset[str]:
    """Ids of pinned groups whose width belongs to the model's inputs or outputs: nobody could cut it."""
    ends = _ends(analysis)
    return frozenset(
        group.id
        for group in analysis.groups
        if group.pin is not None
        and (group.pin.reason.startswith(INTERFACE) or bool(np.isin(group.atoms, ends).any()))
    )


def _ends(analysis: Analysis) -> np.ndarray:
    """The atoms of the axes of all graph inputs and outputs."""
    graph, atoms = analysis.model.graph, analysis.state.atoms
    labels = [label for value in (*graph.inputs, *graph.outputs) for label in analysis.values.get(value, ())]
    found = [atoms.base(f.atoms)[1] for label in labels for f in label if f.atoms is not None]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


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
    owners, ends = _owners(analysis), interface(analysis)
    kept = 0
    for name, shape in floating_initializers(analysis.model):
        mine = [owners.get((name, axis), []) for axis in range(len(shape))]
        sizes = [_kept_slots(owner, ends, size, ratio) for owner, size in zip(mine, shape, strict=True)]
        kept += prod(sizes)
    return kept


def _kept_slots(owners: list[tuple[Group, Slice]], ends: frozenset[str], size: int, ratio: float) -> int:
    widths = [owner for owner in owners if is_width(owner[0])]
    fixed = _slots([owner for owner in widths if owner[0].id in ends], size)
    cut = int((_slots(widths, size) & ~fixed).sum())
    return size - cut + ceil((1 - ratio) * cut)


@dataclass(frozen=True)
class Shortfall:
    """A width that keeps more than a full cut leaves.

    Attributes:
        group: id of the group.
        parameters: about how many parameters the surplus holds, by itself.
        reason: why the width keeps them.
        node: the node that says so.
        unblock: what would free them.
    """

    group: str
    parameters: int
    reason: str
    node: str
    unblock: str


def shortfalls(analysis: Analysis, kept: Mapping[str, int], ratio: float = 0.5) -> list[Shortfall]:
    """The widths that keep more than `1 - ratio` of their slots, the largest surplus first.

    Args:
        analysis: of the dense model.
        kept: Units left per group id; groups that are not named are whole.
        ratio: the share that a full cut removes.
    """
    elements, ends = dict(_elements(analysis)), interface(analysis)
    found = []
    for group in analysis.groups:
        if group.id in ends or not is_width(group):
            continue
        surplus = kept.get(group.id, group.size) / group.size - (1 - ratio)
        lost = int(surplus * _touched(group, elements))
        if lost > 0:
            found.append(_shortfall(group, lost))
    return sorted(found, key=lambda item: (-item.parameters, item.group))


def _elements(analysis: Analysis) -> Iterator[tuple[str, int]]:
    for name, shape in floating_initializers(analysis.model):
        yield name, prod(shape)


def _shortfall(group: Group, parameters: int) -> Shortfall:
    if group.pin is None:
        unblock = "a ratio at which its Units divide"
        return Shortfall(group.id, parameters, f"{WHOLE}: {group.size}, at least {group.floor}", "", unblock)
    pin = group.pin
    return Shortfall(group.id, parameters, pin.reason, pin.node, pin.unblock)


def _touched(group: Group, elements: Mapping[str, int]) -> float:
    """Parameters that the Units of a group own, each stored tensor counted once per axis."""
    shares = {(s.initializer, s.axis): min(1.0, s.count / s.length) for s in group.slices}
    return sum(share * elements.get(name, 0) for (name, _), share in shares.items())
