"""What is in a model: size, operators, and its groups with what each would give (`graphprune inspect`)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.ir.load import load
from graphprune.ir.normalise import normalise
from graphprune.pipeline import measure
from graphprune.pipeline.report import Size
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    from graphprune.axes import Group, Options, Slice


@dataclass(frozen=True)
class Port:
    """A graph input or output."""

    name: str
    type: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class GroupLine:
    """One group: width, the params and MACs that its slices take part in, and why it may not shrink."""

    id: str
    width: int
    params: int
    macs: int | None
    slices: int
    pin: str
    pin_node: str
    unblock: str


@dataclass(frozen=True)
class Inspection:
    """Everything `inspect` prints."""

    source: str
    opset: int
    ir_version: int
    producer: str
    file_bytes: int
    size: Size
    nodes: int
    operators: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    groups: tuple[GroupLine, ...]


def inspect(model: object, settings: Settings, options: Options | None = None) -> Inspection:
    """Look at a model.

    Raises:
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse
    from graphprune.axes.cost import cost

    source = load(model, settings.limits)
    own = source.model if source.path else source.model.clone()
    operators = Counter(_operator(node) for node in own.graph.all_nodes())
    sizes = normalise(own)
    analysis = analyse(own, options, sizes)
    macs = cost(own, settings.shapes).per_node
    return Inspection(
        source=os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__,
        opset=source.opset,
        ir_version=own.ir_version or 0,
        producer=" ".join(filter(None, (own.producer_name, own.producer_version))),
        file_bytes=source.bytes,
        size=measure.size(own, settings.shapes),
        nodes=sum(operators.values()),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        inputs=tuple(_port(value) for value in own.graph.inputs if value.const_value is None),
        outputs=tuple(_port(value) for value in own.graph.outputs),
        groups=tuple(_group(group, macs) for group in analysis.groups),
    )


def _operator(node: ir.Node) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain else node.op_type


def _port(value: ir.Value) -> Port:
    shape = (
        None
        if value.shape is None
        else tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
    )
    return Port(value.name or "", str(value.dtype).lower() if value.dtype is not None else "unknown", shape)


def _group(group: Group, macs: Mapping[ir.Node, int]) -> GroupLine:
    return GroupLine(
        id=group.id,
        width=group.size,
        params=params_of(group),
        macs=_macs(group, macs),
        slices=len(group.slices),
        pin=group.pin.reason if group.pin else "",
        pin_node=group.pin.node if group.pin else "",
        unblock=group.pin.unblock if group.pin else "",
    )


def params_of(group: Group) -> int:
    """Elements of floating initializers that would go if every Unit went."""
    left: dict[str, float] = {}
    elements: dict[str, int] = {}
    for each in group.slices:
        tensor = each.use.value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        elements[each.initializer] = tensor.size
        left[each.initializer] = left.get(each.initializer, 1.0) * (1.0 - _share(each))
    return round(sum(count * (1.0 - left[name]) for name, count in elements.items()))


def _macs(group: Group, macs: Mapping[ir.Node, int]) -> int | None:
    left: dict[ir.Node, float] = {}
    for each in group.slices:
        left[each.use.node] = left.get(each.use.node, 1.0) * (1.0 - _share(each))
    return round(sum(macs.get(node, 0) * (1.0 - share) for node, share in left.items()))


def _share(each: Slice) -> float:
    """The part of an axis that a group owns."""
    return len(np.unique(each.pairs[1])) / each.length if each.length else 0.0
