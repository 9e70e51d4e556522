"""Bodies that run several times (Loop, Scan): what goes in and out, and how often, where that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.ir.learned import Size
from graphprune.ir.nodes import is_alias, is_loop, is_scan
from graphprune.ir.shape_data import Data

Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Body:
    """A Loop or a Scan, taken apart.

    Attributes:
        node: the node.
        graph: what runs.
        states: what is carried from one run to the next: value before the first, in the body, behind a run,
            and behind the last.
        elements: of a Scan: what is taken apart, its axis, and one piece of it in the body.
        collected: what is put together: a piece, the result, and the axis along it.
        scalars: of a Loop: number of the run, and whether to go on.
    """

    node: ir.Node
    graph: ir.Graph
    states: tuple[tuple[ir.Value | None, ir.Value, ir.Value, ir.Value], ...]
    elements: tuple[tuple[ir.Value | None, int, ir.Value], ...]
    collected: tuple[tuple[ir.Value, ir.Value, int], ...]
    scalars: Sequence[ir.Value] = ()


def open_body(node: ir.Node) -> Body | None:
    """The parts of such a node; None for others, and for a Scan before opset 9, which has a batch axis."""
    if not (is_loop(node) or is_scan(node)) or "body" not in node.attributes:
        return None
    graph = node.attributes["body"].as_graph()
    if is_loop(node):
        given, inner, made = node.inputs[2:], graph.inputs[2:], graph.outputs[1:]
        count = len(given)
        states = tuple(zip(given, inner, made[:count], node.outputs[:count], strict=True))
        pieces = zip(made[count:], node.outputs[count:], strict=True)
        collected = tuple((piece, out, 0) for piece, out in pieces)
        return Body(node, graph, states, (), collected, graph.inputs[:2])
    taken = node.attributes.get_int("num_scan_inputs", 0)
    count = len(node.inputs) - taken
    if len(graph.inputs) != len(node.inputs):
        return None
    inside = zip(graph.inputs[:count], graph.outputs[:count], strict=True)
    outside = zip(node.inputs[:count], node.outputs[:count], strict=True)
    states = tuple((a, b, c, d) for (a, d), (b, c) in zip(outside, inside, strict=True))
    axes, out_axes = _axes(node, "scan_input_axes", taken), _axes(node, "scan_output_axes", None)
    elements = tuple(zip(node.inputs[count:], axes, graph.inputs[count:], strict=True))
    results = zip(graph.outputs[count:], node.outputs[count:], strict=True)
    collected = tuple(
        (piece, out, out_axes[at] if at < len(out_axes) else 0) for at, (piece, out) in enumerate(results)
    )
    return Body(node, graph, states, elements, collected)


def trips(body: Body, shapes: Mapping[ir.Value, Shape | None], data: Mapping[ir.Value, Data]) -> Size | None:
    """How often a body runs; None where data decide."""
    for whole, axis, _ in body.elements:
        shape = None if whole is None else shapes.get(whole)
        if shape is not None:
            return shape[axis]
    if not is_loop(body.node) or not _goes_on(body, data):
        return None
    count = body.node.inputs[0]
    known = None if count is None else data.get(count)
    if known is None or known.a.size != 1:
        return None
    return int(np.ravel(known.a)[0]), int(np.ravel(known.b)[0])


def _goes_on(body: Body, data: Mapping[ir.Value, Data]) -> bool:
    """Whether nothing but the count ends a Loop."""
    first, again = body.node.inputs[1], body.graph.outputs[0]
    if first is not None and not _is_true(first, data):
        return False
    maker = again.producer()
    while maker is not None and is_alias(maker) and maker.inputs[0] is not None:
        again = maker.inputs[0]
        maker = again.producer()
    return again is body.graph.inputs[1] or _is_true(again, data)


def _is_true(value: ir.Value, data: Mapping[ir.Value, Data]) -> bool:
    known = data.get(value)
    return known is not None and known.static and known.a.size == 1 and bool(np.ravel(known.a)[0])


def _axes(node: ir.Node, name: str, count: int | None) -> tuple[int, ...]:
    given = tuple(node.attributes[name].as_ints()) if name in node.attributes else ()
    return given or (0,) * (count or 0)


def values_of(graph: ir.Graph) -> Iterator[ir.Value]:
    """Everything that is computed or given in a graph and below it."""
    yield from graph.inputs
    for node in all_nodes(graph):
        yield from node.outputs
