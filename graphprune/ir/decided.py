"""Ifs whose condition is known: the branch that is taken moves into the graph around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import numpy as np
import onnx_ir as ir

from graphprune.ir.graphs import every_graph, graphs_of
from graphprune.ir.nodes import is_if
from graphprune.ir.operators import Operators
from graphprune.ir.shapes import Sizes, infer

BRANCHES = ("else_branch", "then_branch")
"""The branch of an If by its condition."""


def take_branches(model: ir.Model, operators: Operators) -> set[ir.Node]:
    """Replaces every If with a static condition by its branch, in place, at every depth.

    Values and nodes keep their names unless another graph of the model has one of the same name. Results of
    the model keep theirs.

    Returns:
        Nodes outside the Ifs that nothing may read any more.
    """
    if not any(is_if(node) for graph in graphs_of(model) for node in graph):
        return set()
    taking = _Taking(model)
    while ifs := taking.undecided():
        sizes = infer(model, operators)
        known = {node: taken for node in ifs if (taken := _condition(node, sizes)) is not None}
        if not known:  # else what a branch gives may decide further ones
            break
        for node, taken in known.items():
            if node not in taking.gone:
                taking.take(node, taken)
    return {node for node in taking.stale - taking.gone if node.graph is not None}


def _condition(node: ir.Node, sizes: Sizes) -> bool | None:
    value = node.inputs[0]
    known = None if value is None else sizes.data.get(value)
    return bool(np.ravel(known.a)[0]) if known is not None and known.static and known.a.size == 1 else None


class _Taking:
    """A model on its way.

    Attributes:
        stale: nodes that lost a reader.
        gone: nodes of branches that are not taken.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.stale: set[ir.Node] = set()
        self.gone: set[ir.Node] = set()
        every = (each for graph in graphs_of(model) for each in _named(graph))
        self._names = Counter(_key(each, each.name) for each in every)

    def undecided(self) -> list[ir.Node]:
        """The Ifs that are there."""
        nodes = (node for graph in graphs_of(self.model) for node in graph)
        return [node for node in nodes if is_if(node)]

    def take(self, node: ir.Node, condition: bool) -> None:
        """Puts a branch in the place of its If."""
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        branch, other = (node.attributes[BRANCHES[each]].as_graph() for each in (condition, not condition))
        self._let_go(other)
        results, nodes = list(branch.outputs), list(branch)
        branch.outputs.clear()
        self._rename(branch)
        for name, value in list(branch.initializers.items()):
            del branch.initializers[name]
            graph.register_initializer(value)
        branch.remove(nodes)
        graph.insert_before(node, nodes)
        for out, result in zip(node.outputs, results, strict=True):
            _hand_over(graph, node, out, result)
        if node.inputs[0] is not None and (producer := node.inputs[0].producer()) is not None:
            self.stale.add(producer)
        graph.remove(node, safe=True)

    def _let_go(self, branch: ir.Graph) -> None:
        """Drops what a branch that is not taken reads from outside."""
        for graph in every_graph(branch):
            self._names.subtract(_key(each, each.name) for each in _named(graph))
            read = list(graph.outputs)
            graph.outputs.clear()
            self.gone.update(graph)
            for node in graph:
                read += [value for value in node.inputs if value is not None]
                for position in range(len(node.inputs)):
                    node.replace_input_with(position, None)
            self.stale |= {maker for value in read if (maker := value.producer()) is not None}

    def _rename(self, branch: ir.Graph) -> None:
        """Gives values and nodes of a branch names of their own where they share one."""
        for each in list(_named(branch)):
            old = each.name
            if old and self._names[_key(each, old)] > 1:
                each.name = next(new for n in count(2) if not self._names[_key(each, new := f"{old}.{n}")])
                self._names[_key(each, old)] -= 1
                self._names[_key(each, each.name)] += 1


def _key(each: ir.Value | ir.Node, name: str | None) -> tuple[bool, str | None]:
    """A node and a value may share a name."""
    return isinstance(each, ir.Node), name


def _named(graph: ir.Graph) -> Iterator[ir.Value | ir.Node]:
    """Values and nodes of a graph: no two of a kind may have the same name."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield node
        yield from node.outputs


def _hand_over(graph: ir.Graph, node: ir.Node, out: ir.Value, result: ir.Value) -> None:
    """Readers of a result of the If read what the branch gives; the model's own results keep their names."""
    if out.is_graph_output():
        name, maker = out.name, result.producer()
        if maker is None or maker.graph is not graph or result.is_graph_output():
            identity = ir.node("Identity", [result])
            graph.insert_before(node, identity)
            result = identity.outputs[0]
        out.name = None
        result.name = name
    result.type = out.type if result.type is None else result.type
    result.shape = out.shape if result.shape is None else result.shape
    out.replace_all_uses_with(result, replace_graph_outputs=True)
