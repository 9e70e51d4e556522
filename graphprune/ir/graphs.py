"""The graphs of a model and their nodes, at every depth."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def graphs_of(model: ir.Model) -> tuple[ir.Graph, ...]:
    """The main graph and those in attributes of nodes; functions apart."""
    return every_graph(model.graph)


def every_graph(graph: ir.Graph) -> tuple[ir.Graph, ...]:
    """A graph and those in attributes of its nodes, each before those in it."""
    return tuple(dict.fromkeys((graph, *_inner(graph))))


def all_nodes(graph: ir.Graph | ir.Function) -> Iterator[ir.Node]:
    """Nodes in order, each before those in its attributes."""
    for node in graph:
        yield node
        yield from nodes_in(node)


def nodes_in(node: ir.Node) -> Iterator[ir.Node]:
    """Nodes of the graphs in attributes of one node."""
    for inner in _held(node):
        yield from all_nodes(inner)


def _inner(graph: ir.Graph) -> Iterator[ir.Graph]:
    for node in graph:
        for inner in _held(node):
            yield inner
            yield from _inner(inner)


def _held(node: ir.Node) -> tuple[ir.Graph, ...]:
    held: tuple[ir.Graph, ...] = ()
    # `data` is the dict itself: views of a UserDict look up every key anew, and every phase walks all nodes.
    for attribute in node.attributes.data.values():
        if attribute.type == _GRAPH and not attribute.is_ref():
            held = (*held, attribute.as_graph())
        elif attribute.type == _GRAPHS and not attribute.is_ref():
            held = (*held, *attribute.as_graphs())
    return held


_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS
