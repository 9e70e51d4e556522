"""What is in a model: size, operators, and its groups with what each would give (`graphprune inspect`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphprune.ir.scales import said
from graphprune.pipeline.opened import open_model
from graphprune.pipeline.opensizes import open_sizes
from graphprune.pipeline.origin import Origin, stated
from graphprune.pipeline.report import Size
from graphprune.pipeline.samples import Given
from graphprune.pipeline.settings import Looking
from graphprune.pipeline.timed import Times
from graphprune.shown import Shown

if TYPE_CHECKING:
    from graphprune.axes import Analysis, Group, Options


@dataclass(frozen=True)
class Port:
    """A graph input or output."""

    name: str
    type: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class GroupLine:
    """One group: its width, the params and MACs that it takes part in, and why it may not shrink."""

    id: str
    width: int
    params: int
    macs: int
    slices: int
    pin: str
    pin_node: str
    unblock: str


@dataclass(frozen=True)
class Inspection(Shown):
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
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    times: Times | None = None


def inspect(
    model: object, settings: Looking, options: Options | None = None, inputs: Given = None
) -> Inspection:
    """Look at a model.

    Args:
        model: what to look at.
        settings: limits, fixed inputs and shapes.
        options: what the analysis may assume.
        inputs: samples; what is counted is counted at their shapes.

    Raises:
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse

    opened = open_model(model, settings, inputs)
    source, own, shapes = opened.source, opened.model, opened.settings.shape
    analysis = analyse(own, options, opened.sizes)
    size, gains = _counted(analysis, shapes)
    return Inspection(
        source=os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__,
        opset=source.opset,
        ir_version=opened.ir_version,
        producer=" ".join(filter(None, (own.producer_name, own.producer_version))),
        file_bytes=source.bytes,
        size=size,
        nodes=sum(opened.operators.values()),
        operators=dict(sorted(opened.operators.items(), key=lambda item: (-item[1], item[0]))),
        inputs=tuple(_port(value) for value in own.graph.inputs),
        outputs=tuple(_port(value) for value in own.graph.outputs),
        groups=tuple(_group(*each) for each in zip(analysis.groups, gains, strict=True)),
        notes=tuple(filter(None, (*source.remarks, said(opened.fitted), opened.defaults.said(False)))),
        origin=stated(own.metadata_props),
    )


def _port(value: ir.Value) -> Port:
    shape = (
        None
        if value.shape is None
        else tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
    )
    return Port(value.name or "", str(value.dtype).lower() if value.dtype is not None else "unknown", shape)


def _group(group: Group, gain: tuple[int, int]) -> GroupLine:
    return GroupLine(
        id=group.id,
        width=group.size,
        params=gain[0],
        macs=gain[1],
        slices=len(group.slices),
        pin=group.pin.reason if group.pin else "",
        pin_node=group.pin.node if group.pin else "",
        unblock=group.pin.unblock if group.pin else "",
    )


def _counted(analysis: Analysis, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Size, list[tuple[int, int]]]:
    """The model's size, and the parameters and multiply-adds that would go with every Unit of each Group."""
    from graphprune.axes.cost import CostModel
    from graphprune.ir.weights import stored_bytes

    model = CostModel(analysis, shapes)
    macs = None if model.unknown else model.dense_macs
    gains = [model.saved(number, ()) for number in range(len(analysis.groups))]
    sizes = open_sizes(analysis.model, model.inputs, shapes)
    return Size(model.dense_params, macs, stored_bytes(analysis.model), sizes), gains
