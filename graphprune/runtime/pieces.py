"""The nodes that run, as pieces whose cost is a function of one or two widths.

A piece is an operator with its attributes and all sizes that a cut leaves alone. What varies are its widths:
the channels that go into a convolution or product and come out of it, and the channels of anything else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.nodes import operator_of
from graphprune.ops import has, layer_of
from graphprune.ops.traits import Trait
from graphprune.runtime.patterns import BLOCKED
from graphprune.runtime.profile import Event, events_of
from graphprune.runtime.session import OPTIMISED, Feeds, open_session
from graphprune.runtime.work import work_of

Shape = tuple[int, ...]
Roles = tuple[tuple[int, int], ...]
"""Inputs and axes of them that are as long as one width."""
SMALL = 64
"""Elements up to which the contents of a constant matter: they may be sizes, bounds or an axis."""
COUNTING = ("group", "channels")
"""Attributes that hold a width."""
STEADY = ("elementwise", "normalisation", "reduction")


@dataclass(frozen=True)
class Given:
    """An input of a node: its shape, what the trace calls its type, and whether it is a constant."""

    shape: Shape
    type: str
    constant: bool
    content: np.ndarray | None


@dataclass(frozen=True)
class Piece:
    """One node that runs.

    Attributes:
        kind: what it is, without its widths: nodes of one kind share one cost function.
        widths: one or two; where it is not known what they are, the elements that it reads and writes.
        roles: where each width stands; none where that is not known.
        node: of the graph that runs.
        inputs: those that are there.
    """

    kind: str
    widths: tuple[int, ...]
    roles: tuple[Roles, ...]
    node: ir.Node
    inputs: tuple[Given, ...]

    def at(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Shapes of its inputs at other widths."""
        shapes = [list(given.shape) for given in self.inputs]
        for role, width in zip(self.roles, widths, strict=False):
            for position, axis in role:
                shapes[position][axis] = width
        return tuple(map(tuple, shapes))


def pieces(model: ir.Model, feeds: Feeds, threads: int = 1) -> tuple[Piece, ...]:
    """Of a model as ONNX Runtime runs it on these inputs; what stands in bodies counts with their node.

    Raises:
        ModelError: it does not load or run.
    """
    with TemporaryDirectory() as folder:
        session = open_session(model, threads=threads, trace=Path(folder))
        session.run(feeds)
        run = events_of(session.end_trace())[-1]
        graph = ir.load(Path(folder, OPTIMISED)).graph
        if [node.op_type for node in graph] != [event.operator for event in run]:
            raise ModelError("ONNX Runtime runs other nodes than it says")
        return tuple(_piece(node, event) for node, event in zip(graph, run, strict=True))


def _piece(node: ir.Node, event: Event) -> Piece:
    inputs = _inputs(node, event)
    shapes = [each.shape for each in inputs]
    roles = _roles(node, inputs, event.outputs[0] if event.outputs else ())
    if not roles or not all(roles):
        elements = sum(map(math.prod, (*shapes, *event.outputs)))
        return Piece(_kind(node, [], ()), (elements,), (), node, inputs)
    widths = tuple(shapes[role[0][0]][role[0][1]] for role in roles)
    return Piece(_kind(node, inputs, roles), widths, roles, node, inputs)


def _inputs(node: ir.Node, event: Event) -> tuple[Given, ...]:
    """The trace leaves out what a body reads from outside."""
    present = [value for value in node.inputs if value is not None]
    traced = list(zip(event.inputs, event.types, strict=True))
    whole = len(traced) == len(present)
    found = []
    for value in present:
        fixed = value.const_value
        if fixed is not None and not whole:
            shape, type_ = tuple(fixed.shape.numpy()), str(fixed.dtype).lower()
        else:
            shape, type_ = traced.pop(0) if traced else ((), "float")
        content = np.array(fixed.numpy()) if fixed is not None and fixed.size <= SMALL else None
        found.append(Given(shape, type_, fixed is not None, content))
    return tuple(found)


def _kind(node: ir.Node, inputs: Sequence[Given], roles: Sequence[Roles]) -> str:
    varying = {place: "ab"[number] for number, role in enumerate(roles) for place in role}
    sizes = [
        [given.type, given.constant]
        + [varying.get((position, axis), size) for axis, size in enumerate(given.shape)]
        for position, given in enumerate(inputs)
    ]
    settings = {
        name: str(attribute.value)
        for name, attribute in sorted(node.attributes.items())
        if attribute.type != ir.AttributeType.GRAPH and name not in COUNTING
    }
    return json.dumps([operator_of(node), settings, sizes])


def _roles(node: ir.Node, inputs: Sequence[Given], out: Shape) -> tuple[Roles, ...]:
    """Where a node has its widths; empty where nobody knows."""
    work = work_of(node)
    if work == "contractions" and len(inputs) > 1:
        return _convolution(node, inputs) or _product(node, inputs)
    return (_channels(inputs, out),) if work in STEADY and len(out) > 1 else ()


def _convolution(node: ir.Node, inputs: Sequence[Given]) -> tuple[Roles, ...]:
    blocked = operator_of(node).startswith(BLOCKED)
    if not (blocked or has(node, Trait.CONVOLUTION)) or has(node, Trait.SPREAD, Trait.CODES):
        return ()
    x, w = inputs[0].shape, inputs[1].shape
    more = tuple((at, min(1, len(each.shape) - 1)) for at, each in enumerate(inputs) if at > 1 and each.shape)
    if node.attributes.get_int("group", 1) == 1:
        return ((0, 1), (1, 1)), ((1, 0), *more)
    return (((0, 1), (1, 0), *more),) if w[1] == 1 and x[1] == w[0] else ()


def _product(node: ir.Node, inputs: Sequence[Given]) -> tuple[Roles, ...]:
    plain = layer_of(node) is not None and has(node, Trait.PRODUCT) and not has(node, Trait.CODES)
    if not plain or inputs[0].constant or not inputs[1].constant or len(inputs[1].shape) != 2:
        return ()
    inner = 1 if node.attributes.get_int("transB", 0) else 0
    contracted = len(inputs[0].shape) - (2 if node.attributes.get_int("transA", 0) else 1)
    bias = tuple((at, len(each.shape) - 1) for at, each in enumerate(inputs) if at > 1 and each.shape)
    return ((0, contracted), (1, inner)), ((1, 1 - inner), *bias)


def _channels(inputs: Sequence[Given], out: Shape) -> Roles:
    """The channels of a result in inputs that have them: axis 1 of a picture, the last one of a sequence."""
    axis = 1 if len(out) > 3 else len(out) - 1
    found = []
    for position, given in enumerate(inputs):
        rank = len(given.shape)
        at = 0 if rank == 1 else rank - len(out) + axis
        if 0 <= at < rank and given.shape[at] == out[axis]:
            found.append((position, at))
    return tuple(found)
