"""Which node of the pruned model is which node of the dense one, and whether they are wired alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.ir.names import called
from graphprune.proof.declared import Declared
from graphprune.proof.gone import Gone

INSERTED = "graphprune/"
"""Prefix of the names of nodes that a rewrite adds."""


@dataclass(eq=False)
class Pairing:
    """Dense nodes and values with their partners.

    Attributes:
        nodes: dense node to pruned node.
        values: dense value to pruned value, for inputs and results of paired nodes.
        replaced: dense nodes that inserted nodes stand for.
        inserted: nodes that only the pruned model has.
        problems: differences of structure that nothing declares.
        gone: dense nodes that have no counterpart on purpose, and what that means for their readers.
    """

    nodes: dict[ir.Node, ir.Node] = field(default_factory=dict)
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    replaced: list[ir.Node] = field(default_factory=list)
    inserted: set[ir.Node] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    gone: Gone = field(default_factory=Gone)


def is_constant(value: ir.Value | None) -> TypeGuard[ir.Value]:
    """Whether a value is an initializer."""
    return value is not None and value.producer() is None and value.const_value is not None


def contents(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of an initializer."""
    assert value.const_value is not None
    return value.const_value


def same_attribute(one: ir.Attr | None, two: ir.Attr | None) -> bool:
    """Whether two attributes say the same; graphs always do, as their nodes are compared one by one."""
    if one is None or two is None or one.type != two.type:
        return one is two
    kinds = ir.AttributeType
    if one.type in (kinds.GRAPH, kinds.GRAPHS):
        return True
    if one.type == kinds.TENSOR:
        a, b = one.as_tensor(), two.as_tensor()
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(one.value == two.value)


def pair(dense: ir.Model, pruned: ir.Model, declared: Declared) -> Pairing:
    """Walks both models side by side; the order of nodes is the same but for inserted and replaced ones."""
    pairing = Pairing(gone=declared.gone)
    rest = list(all_nodes(pruned.graph))[::-1]
    for node in all_nodes(dense.graph):
        if node in declared.gone.nodes:
            continue
        while rest and not _alike(node, rest[-1]) and (rest[-1].name or "").startswith(INSERTED):
            pairing.inserted.add(rest.pop())
        if rest and _alike(node, rest[-1]):
            pairing.nodes[node] = rest.pop()
        elif node in declared.open:
            pairing.replaced.append(node)
        else:
            pairing.problems.append(f"{called(node)} has no counterpart in the pruned model")
            return pairing
    pairing.inserted.update(rest)
    pairing.problems += [f"{called(n)} is new" for n in rest if not (n.name or "").startswith(INSERTED)]
    if pairing.inserted and not declared.open:
        pairing.problems.append(f"{len(pairing.inserted)} nodes were inserted that nothing declares")
    _values(dense, pruned, pairing)
    _wiring(dense, pruned, pairing)
    return pairing


def _alike(one: ir.Node, two: ir.Node) -> bool:
    same = (one.op_type, one.domain, one.overload) == (two.op_type, two.domain, two.overload)
    return same and (one.name or "") == (two.name or "") and len(one.outputs) == len(two.outputs)


def _values(dense: ir.Model, pruned: ir.Model, pairing: Pairing) -> None:
    inputs = [value for value in dense.graph.inputs if value not in pairing.gone.ends]
    if len(inputs) != len(pruned.graph.inputs):
        pairing.problems.append("the number of graph inputs differs")
    for one, two in zip(inputs, pruned.graph.inputs, strict=False):
        pairing.values[one] = two
        if (one.name, one.dtype) != (two.name, two.dtype):
            pairing.problems.append(f"graph input {one.name!r} became {two.name!r}")
    for first, second in pairing.nodes.items():
        pairing.values.update(zip(first.outputs, second.outputs, strict=True))
        inner = zip(subgraphs(first), subgraphs(second), strict=False)
        for graph, other in inner:
            pairing.values.update(zip(graph.inputs, other.inputs, strict=False))


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node holds."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _wiring(dense: ir.Model, pruned: ir.Model, pairing: Pairing) -> None:
    for first, second in pairing.nodes.items():
        for position, value in enumerate(pairing.gone.inputs(first)):
            other = second.inputs[position] if position < len(second.inputs) else None
            if not _follows(value, other, pairing):
                pairing.problems.append(f"input {position} of {called(first)} is wired to something else")
        for one, two in zip(subgraphs(first), subgraphs(second), strict=False):
            _results(one, two, pairing)
    _results(dense.graph, pruned.graph, pairing)


def _results(one: ir.Graph, two: ir.Graph, pairing: Pairing) -> None:
    outputs = [value for value in one.outputs if value not in pairing.gone.ends]
    names = [[value.name for value in values] for values in (outputs, two.outputs)]
    if names[0] != names[1]:
        pairing.problems.append(f"graph outputs {names[0]} became {names[1]}")
    for value, other in zip(outputs, two.outputs, strict=False):
        if not _follows(value, other, pairing):
            pairing.problems.append(f"graph output {value.name!r} comes from something else")


def _follows(value: ir.Value | None, other: ir.Value | None, pairing: Pairing) -> bool:
    """Whether a pruned value is the partner of a dense one, possibly with inserted nodes between them."""
    value = pairing.gone.stands_for(value)
    if value is None or other is None:
        return value is other
    if is_constant(value):
        return is_constant(other)
    producer = value.producer()
    if producer in pairing.replaced:
        return other.producer() in pairing.inserted and _follows(producer.inputs[0], other, pairing)
    partner = pairing.values.get(value)
    return partner is not None and (partner is other or partner in _behind(other, pairing))


def _behind(value: ir.Value, pairing: Pairing) -> set[ir.Value]:
    """Every value that a value is made of by inserted nodes."""
    found: set[ir.Value] = set()
    work = [value]
    while work:
        producer = work.pop().producer()
        if producer in pairing.inserted:
            fresh = {v for v in producer.inputs if v is not None} - found
            found |= fresh
            work.extend(fresh)
    return found
