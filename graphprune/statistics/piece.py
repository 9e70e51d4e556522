"""A segment as a model of its own, with other weights, added biases and more outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.build import initializer, new_node
from graphprune.ir.shapes import Sizes
from graphprune.runtime.session import Session, open_session
from graphprune.statistics.reductions import Reduction, append
from graphprune.statistics.segments import Segment, reads
from graphprune.statistics.sites import Site

FEW = 16
"""Runs of a batch up to which it costs more to rearrange large weights than it saves."""


@dataclass(frozen=True)
class Altered:
    """How a run differs from the model: the weights that a cut and its repair leave so far.

    Attributes:
        replaced: other contents of initializers, by name.
        biases: vectors added to the outputs of Sites, by name of the output.
    """

    replaced: Arrays = field(default_factory=dict)
    biases: Arrays = field(default_factory=dict)


AS_IS = Altered()


def open_piece(
    model: ir.Model,
    sizes: Sizes,
    segment: Segment,
    *,
    taps: Sequence[str] = (),
    reductions: Sequence[Reduction] = (),
    altered: Altered = AS_IS,
    advance: bool = True,
    runs: int,
) -> Session | None:
    """A session that computes the outputs of a segment, inner values and reductions; None if none of them.

    Args:
        model: the whole model; it is not changed, and its weights are not copied.
        sizes: of its values.
        segment: what to run.
        taps: names of values made in the segment that are returned raw.
        reductions: what is computed besides.
        altered: weights to run with instead of the model's own.
        advance: return the outputs of the segment.
        runs: how often it will run.
    """
    outputs = [value for value in segment.outputs if advance or value.name in taps]
    extra = [segment.made[name] for name in taps if segment.made[name] not in outputs]
    extra += [segment.made[name] for item in reductions for name in item.values if name in segment.made]
    nodes = _needed(segment, {*outputs, *extra})
    entering = {name for item in reductions for name in item.values} - segment.made.keys()
    read = dict.fromkeys(value for node in nodes for value in reads(node))
    inputs = [value for value in segment.inputs if value in read or value.name in entering]
    if not nodes and not entering:
        return None
    graph = _graph(model, sizes, nodes, inputs, outputs)
    _replace(graph, altered.replaced)
    by_name = {value.name or "": value for node in graph for value in node.outputs}
    by_name |= {value.name or "": value for value in graph.inputs}
    for site in segment.sites:
        if site.output.name in altered.biases and site.output.name in by_name:
            _add_bias(graph, site, by_name, altered.biases[site.output.name])
    more = append(graph, by_name, reductions, model.opset_imports.get("", 1))
    piece = ir.Model(graph, ir_version=model.ir_version)
    outside = [*dict.fromkeys([*taps, *more])]
    return open_session(piece, extra_outputs=outside, exact=True, rearrange=runs > FEW)


def _graph(
    model: ir.Model, sizes: Sizes, nodes: list[ir.Node], inputs: list[ir.Value], outputs: list[ir.Value]
) -> ir.Graph:
    """A copy of some nodes that shares their weights."""
    known = model.graph.initializers
    read = dict.fromkeys(value for node in nodes for value in reads(node))
    weights = [value for value in read if known.get(value.name or "") is value]
    view = ir.GraphView(
        inputs,
        outputs,
        nodes=nodes,
        initializers=[value for value in weights if value not in set(inputs)],
        opset_imports=model.opset_imports,
        name="segment",
    )
    graph = view.clone()
    _open_shapes(graph, inputs, sizes)
    return graph


def _replace(graph: ir.Graph, replaced: Arrays) -> None:
    """Other contents of initializers, in their own type."""
    for name, array in replaced.items():
        if name in graph.initializers:
            dtype = graph.initializers[name].dtype
            exact = np.ascontiguousarray(array, None if dtype is None else dtype.numpy())
            graph.initializers[name].const_value = ir.Tensor(exact, name=name)


def _needed(segment: Segment, wanted: Iterable[ir.Value]) -> list[ir.Node]:
    found = set(wanted)
    needed = []
    for node in reversed(segment.nodes):
        if found.isdisjoint(node.outputs):
            continue
        needed.append(node)
        found.update(reads(node))
    return needed[::-1]


def _open_shapes(graph: ir.Graph, inputs: Sequence[ir.Value], sizes: Sizes) -> None:
    """Ranks only: what a file declares of inner values may be wrong, and an open size may look static.

    Two generic heights can meet on their way through strides, and a third that is measured on may not.
    """
    for value, copy in zip(inputs, graph.inputs, strict=True):
        if value.producer() is None:
            continue
        shape = sizes.shapes.get(value)
        copy.shape = None if shape is None else ir.Shape([None] * len(shape))


def _add_bias(graph: ir.Graph, site: Site, values: dict[str, ir.Value], bias: Array) -> None:
    """An Add whose result has the name that the product had."""
    name = site.output.name or ""
    product = values[name]
    behind = len(site.kernel) if site.kernel else -1 - site.out_axis
    constant = initializer(graph, f"graphprune/bias/{name}", np.reshape(bias, (-1, *(1,) * behind)))
    node = new_node("Add", [product, constant], f"graphprune/add/{name}")
    producer = product.producer()
    assert producer is not None
    product.replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    node.replace_input_with(0, product)
    product.name = f"graphprune/product/{name}"
    node.outputs[0].name, node.outputs[0].type = name, product.type
    graph.insert_after(producer, node)
    values[name] = node.outputs[0]
