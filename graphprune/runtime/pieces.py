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
from graphprune.run import CPU_ALONE
from graphprune.runtime.opening import OPTIMISED
from graphprune.runtime.patterns import BLOCKED
from graphprune.runtime.profile import Event, events_of
from graphprune.runtime.session import Feeds, Session, open_session
from graphprune.runtime.work import work_of

Shape = tuple[int, ...]
Place = tuple[int, int, int]
"""An input, an axis of it, and how many times one width that axis is long."""
Roles = tuple[Place, ...]
"""Where one width stands."""
Widths = tuple[tuple[Roles, ...], dict[int, int]]
"""Where all widths of a node stand, and which of them is on which axis of its first output."""
NOWHERE: Widths = ((), {})
SMALL = 64
"""Elements up to which the contents of a constant matter: they may be sizes, bounds or an axis."""
COUNTING = ("group", "channels", "hidden_size")
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
            for position, axis, times in role:
                shapes[position][axis] = times * width
        return tuple(map(tuple, shapes))


def pieces(
    model: ir.Model, feeds: Feeds, threads: int = 1, providers: Sequence[str] = CPU_ALONE
) -> tuple[Piece, ...]:
    """Of a model as ONNX Runtime runs it on these inputs; what stands in bodies counts with their node.

    Raises:
        ModelError: it does not load or run.
    """
    with TemporaryDirectory() as folder:
        session = _traced(model, threads, providers, Path(folder))
        session.run(feeds)
        run = events_of(session.end_trace())[-1]
        return pieces_of(ir.load(Path(folder, OPTIMISED)).graph, run)


def _traced(model: ir.Model, threads: int, providers: Sequence[str], folder: Path) -> Session:
    try:
        return open_session(model, threads=threads, providers=providers, trace=folder)
    except ModelError as error:
        if "compiled nodes" not in error.message:
            raise
        fault = f"{', '.join(providers)} compiles models, and does not tell what their nodes take"
        raise ModelError(fault, "a profile needs a provider that runs node by node") from error


def pieces_of(graph: ir.Graph, run: Sequence[Event]) -> tuple[Piece, ...]:
    """Of a graph as it runs, and one run of it.

    Raises:
        ModelError: they are not of each other.
    """
    if [node.op_type for node in graph] != [event.operator for event in run]:
        raise ModelError("ONNX Runtime runs other nodes than it says")
    return tuple(_piece(node, event) for node, event in zip(graph, run, strict=True))


def _piece(node: ir.Node, event: Event) -> Piece:
    inputs = _inputs(node, event)
    shapes = [each.shape for each in inputs]
    out = event.outputs[0] if event.outputs else ()
    roles, outs = _widths(node, inputs, out)
    told = all(axis < len(shapes[at]) for role in roles for at, axis, _ in role)
    if not roles or not all(roles) or not told:
        elements = sum(map(math.prod, (*shapes, *event.outputs)))
        return Piece(_kind(node, [], (), [], {}), (elements,), (), node, inputs)
    firsts = [role[0] for role in roles]
    widths = tuple(shapes[position][axis] // times for position, axis, times in firsts)
    return Piece(_kind(node, inputs, roles, out, outs), widths, roles, node, inputs)


def _inputs(node: ir.Node, event: Event) -> tuple[Given, ...]:
    """The trace leaves out what a body reads from outside, and weights that a kernel packed its own way."""
    present = [value for value in node.inputs if value is not None]
    traced = list(zip(event.inputs, event.types, strict=True))
    told_weights = len(traced) - sum(value.const_value is None for value in present)
    found = []
    for value in present:
        fixed = value.const_value
        there = fixed is None or (told_weights > 0 and traced[0][0] == tuple(fixed.shape.numpy()))
        told_weights -= fixed is not None and there
        if fixed is not None and not there:
            shape, type_ = tuple(fixed.shape.numpy()), str(fixed.dtype).lower()
        else:
            shape, type_ = traced.pop(0) if traced else ((), "float")
        told = fixed is not None and fixed.size <= SMALL and not isinstance(fixed, ir.ExternalTensor)
        content = np.array(fixed.numpy()) if fixed is not None and told else None
        found.append(Given(shape, type_, fixed is not None, content))
    return tuple(found)


def _kind(
    node: ir.Node, inputs: Sequence[Given], roles: Sequence[Roles], out: Sequence[int], outs: dict[int, int]
) -> str:
    varying = {
        (position, axis): f"{times if times > 1 else ''}{'ab'[number]}"
        for number, role in enumerate(roles)
        for position, axis, times in role
    }
    sizes = [
        [given.type, given.constant]
        + [varying.get((position, axis), size) for axis, size in enumerate(given.shape)]
        for position, given in enumerate(inputs)
    ]
    made = [varying[roles[outs[axis]][0][:2]] if axis in outs else size for axis, size in enumerate(out)]
    settings = {
        name: str(attribute.value)
        for name, attribute in sorted(node.attributes.items())
        if attribute.type != ir.AttributeType.GRAPH and name not in COUNTING
    }
    return json.dumps([operator_of(node), settings, sizes, made])


def _widths(node: ir.Node, inputs: Sequence[Given], out: Shape) -> Widths:
    """Where a node has its widths; nowhere where nobody knows."""
    work = work_of(node)
    if work == "contractions" and len(inputs) > 1 and not has(node, Trait.CODES):
        return _convolution(node, inputs) or _recurrent(node, inputs) or _product(node, inputs, out)
    return _channels(inputs, out) if work in STEADY and len(out) > 1 else NOWHERE


def _convolution(node: ir.Node, inputs: Sequence[Given]) -> Widths | None:
    """Channels in and out, of one group; of a depthwise convolution they are the same."""
    blocked = operator_of(node).startswith(BLOCKED)
    if not (blocked or has(node, Trait.CONVOLUTION)) or has(node, Trait.SPREAD):
        return None
    x, w = inputs[0].shape, inputs[1].shape
    groups = node.attributes.get_int("group", 1)
    more = [(at, min(1, len(each.shape) - 1)) for at, each in enumerate(inputs) if at > 1 and each.shape]
    if groups > 1 and w[1] == 1 and x[1] == w[0]:
        return (((0, 1, 1), (1, 0, 1), *((*place, 1) for place in more)),), {1: 0}
    if x[1] != groups * w[1] or w[0] % groups:
        return NOWHERE
    return (((1, 1, 1), (0, 1, groups)), ((1, 0, groups), *((*place, groups) for place in more))), {1: 1}


def _recurrent(node: ir.Node, inputs: Sequence[Given]) -> Widths | None:
    """The width that comes in, and the hidden one: [.., gates x hidden, hidden] and what is as long."""
    if not has(node, Trait.RECURRENT):
        return None
    places = [at for at, value in enumerate(node.inputs) if value is not None]
    _, w, r = (each.shape for each in inputs[:3])
    gates = w[1] // r[2]
    axes = {1: (1, gates), 3: (1, 2 * gates), 5: (2, 1), 6: (2, 1), 7: (1, 3)}
    hidden = [(at, *axes[place]) for at, place in enumerate(places) if place in axes]
    return (((0, 2, 1), (1, 2, 1)), ((2, 2, 1), (2, 1, gates), *hidden)), {3: 1}


def _product(node: ir.Node, inputs: Sequence[Given], out: Shape) -> Widths:
    if layer_of(node) is None or not has(node, Trait.PRODUCT) or inputs[0].constant:
        return NOWHERE
    x, w = (len(each.shape) for each in inputs[:2])
    turned = [node.attributes.get_int(name, 0) for name in ("transA", "transB")]
    contracted, inner = x - 1 - turned[0], w - 2 + turned[1]
    if inputs[1].constant and w == 2:
        bias = [(at, len(each.shape) - 1, 1) for at, each in enumerate(inputs) if at > 1 and each.shape]
        return (((0, contracted, 1), (1, inner, 1)), ((1, 1 - inner, 1), *bias)), {len(out) - 1: 1}
    if inputs[1].constant or not 2 < x == w or len(inputs) > 2:
        return NOWHERE
    heads = ((0, x - 3, 1), (1, x - 3, 1))
    if out[-1] == out[-2]:
        return (heads, ((0, contracted, 1), (1, inner, 1))), {x - 3: 0}
    return (heads, ((1, 2 * w - 3 - inner, 1),)), {x - 3: 0, x - 1: 1}


def _channels(inputs: Sequence[Given], out: Shape) -> Widths:
    """The channels of a result in inputs that have them: axis 1 of a picture, the last one of a sequence."""
    axis = 1 if len(out) > 3 else len(out) - 1
    found = []
    for position, given in enumerate(inputs):
        rank = len(given.shape)
        at = 0 if rank == 1 else rank - len(out) + axis
        if 0 <= at < rank and given.shape[at] == out[axis]:
            found.append((position, at, 1))
    return (tuple(found),), {axis: 0}
