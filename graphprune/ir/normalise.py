"""The one form that the analysis reads: no functions, no Constant nodes, no static shape arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from graphprune.ir.build import become, drop_unread, initializer
from graphprune.ir.decided import take_branches
from graphprune.ir.defaults import make_constant
from graphprune.ir.fold_weights import SMALL, fold_weights, freed
from graphprune.ir.given import close_inputs, complete
from graphprune.ir.graphs import graphs_of
from graphprune.ir.inline import inline
from graphprune.ir.nodes import is_alias, is_constant, is_literal
from graphprune.ir.operators import Operators
from graphprune.ir.shape_data import constant
from graphprune.ir.shapes import Sizes, infer

CONSTANT_KINDS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}
"""Attributes of Constant other than `value`, with the element type they stand for."""


def normalise(
    model: ir.Model, operators: Operators, shapes: Mapping[str, Sequence[int]] = MappingProxyType({})
) -> Sizes:
    """Brings a model into normal form, in place, and returns the sizes of its values.

    Functions are inlined, weights that are inputs as well become constants, Constants are lifted,
    `Identity(initializer)` resolved; an If whose condition is known gives way to its branch; static shape
    arithmetic and weight-only chains that do not grow the model become initializers; an open size of an input
    that a weight fixes is declared. Opset, names, inputs that carry data and outputs stay.

    Args:
        model: to change.
        operators: whose shapes and types are not left to the onnx package.
        shapes: of inputs, for sizes that are not known otherwise.
    """
    inline(model)
    make_constant(model)
    graphs = graphs_of(model)
    for graph in graphs:
        _lift_constants(graph)
        _resolve_aliases(graph)
    unread = {value for graph in graphs for value in graph.initializers.values() if not value.uses()}
    _sweep(take_branches(model, operators))
    graphs = graphs_of(model)
    sizes = infer(model, operators)
    close_inputs(model, sizes)
    for graph in graphs:
        _fold_shapes(graph, sizes)
        _fold_weights(graph, sizes)
    for graph in graphs:
        drop_unread(graph, unread)
    return complete(sizes, model, operators, shapes)


def _lift_constants(graph: ir.Graph) -> None:
    """Turns Constant nodes into initializers of the same name."""
    for node in list(graph):
        if not is_literal(node):
            continue
        out = node.outputs[0]
        tensor = _constant_tensor(node)
        if tensor is None or out.is_graph_output():
            continue
        become(node, tensor)


def _constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    if "value" in node.attributes:
        # Attr.as_tensor checks a run-time protocol, which costs more than the rest of this pass.
        tensor: ir.TensorProtocol = node.attributes["value"].value
        return tensor
    for name, kind in CONSTANT_KINDS.items():
        if name in node.attributes:
            return ir.Tensor(np.array(node.attributes[name].value, kind), name=node.outputs[0].name)
    return None


def _resolve_aliases(graph: ir.Graph) -> None:
    for node in list(graph):
        if not is_alias(node) or not is_constant(node.inputs[0]):
            continue
        out = node.outputs[0]
        if out.is_graph_output():
            continue
        source = node.inputs[0]
        assert source is not None
        out.replace_all_uses_with(source)
        graph.remove(node, safe=True)


def _fold_shapes(graph: ir.Graph, sizes: Sizes) -> None:
    folded: list[ir.Node] = []
    for node in list(graph):
        known = [sizes.data.get(out) for out in node.outputs]
        if known and all(data is not None and data.static for data in known):
            folded.append(node)
    gone = set(folded)
    for node in reversed(folded):
        read = any(user not in gone for out in node.outputs for user, _ in out.uses())
        if any(out.is_graph_output() for out in node.outputs) or (read and _grows(node, gone, sizes)):
            gone.discard(node)
    for node in folded:
        for out in node.outputs if node in gone else ():
            if any(user not in gone for user, _ in out.uses()):
                _materialise(graph, out, sizes)
    _sweep([node for node in folded if node in gone])


def _grows(node: ir.Node, folded: set[ir.Node], sizes: Sizes) -> bool:
    """Whether what a node computes takes more bytes than what it is computed from, and would free."""
    size = sum(sizes.data[out].a.nbytes for out in node.outputs)
    if size <= SMALL:
        return False
    cone, waiting = {node}, [node]
    while waiting:
        makers = {value.producer() for value in waiting.pop().inputs if value is not None}
        new = [maker for maker in makers if maker is not None and maker in folded and maker not in cone]
        cone.update(new)
        waiting += new
    return size > freed(cone)


def _materialise(graph: ir.Graph, out: ir.Value, sizes: Sizes) -> None:
    data = sizes.data[out]
    array = np.array(data.a, order="C")
    name = out.name or ""
    out.name = f"{name}.folded"
    value = initializer(graph, name, array)
    sizes.data[value] = constant(array)
    sizes.shapes[value] = tuple((d, d) for d in array.shape)
    out.replace_all_uses_with(value)


def _sweep(nodes: Iterable[ir.Node]) -> None:
    """Removes nodes that folding left without a use, and what only they used."""
    work = list(nodes)
    while work:
        node = work.pop()
        if node.graph is None or any(out.uses() or out.is_graph_output() for out in node.outputs):
            continue
        producers = [value.producer() for value in node.inputs if value is not None]
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        graph.remove(node, safe=True)
        work.extend(producer for producer in producers if producer is not None)


def _fold_weights(graph: ir.Graph, sizes: Sizes) -> None:
    producers = []
    for out, array in fold_weights(graph, sizes.shapes).items():
        sizes.data[out] = constant(array)
        producers.append(out.producer())
        _materialise(graph, out, sizes)
    _sweep([node for node in producers if node is not None])
