"""Data flow of a ModelProto: single assignment, nothing undefined, no cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from graphprune.errors import ModelError
from graphprune.ir.names import quote
from graphprune.ir.preflight.structure import Nodes, describe, require_text, subgraphs


@dataclass
class Flow:
    """Data flow of all graphs: single assignment, no undefined names, no cycles.

    `sorted` turns False when nodes come in another order than the data; that is repaired, not refused.
    """

    max_depth: int
    sorted: bool = True

    def check_main(self, graph: onnx.GraphProto) -> None:
        """Check the main graph, with its interface."""
        for value in (*graph.input, *graph.output):
            require_text(value.name, value.doc_string)
            if not value.name:
                raise ModelError("a graph input or output has no name")
            if value.type.WhichOneof("value") is None:
                raise ModelError(f"graph input or output {quote(value.name)} has no type")
        _require_unique([value.name for value in graph.output], "graph output")
        self._graph(graph, [])

    def check_function(self, function: onnx.FunctionProto) -> None:
        """Check a function body."""
        _require_unique(list(function.input), "function input")
        self._nodes(function.node, set(function.input), [])
        produced = {name for node in function.node for name in node.output} | set(function.input)
        for name in function.output:
            if name not in produced:
                raise ModelError(f"output {quote(name)} of function {quote(function.name)} is never produced")

    def _graph(self, graph: onnx.GraphProto, outer: list[set[str]]) -> None:
        if len(outer) > self.max_depth:
            raise ModelError(f"subgraphs are nested more than {self.max_depth} deep")
        inputs = [value.name for value in graph.input]
        weights = [*(t.name for t in graph.initializer), *(s.values.name for s in graph.sparse_initializer)]
        require_text(graph.name, graph.doc_string, *inputs, *weights)
        _require_unique(inputs, "graph input")
        _require_unique(weights, "initializer")
        if "" in weights:
            raise ModelError("an initializer has no name")
        known = {*inputs, *weights}
        self._nodes(graph.node, known, outer)
        for value in graph.output:
            if value.name not in known and not any(value.name in scope for scope in outer):
                raise ModelError(f"graph output {quote(str(value.name))} is never produced")
        require_text(*(v.name for v in graph.value_info), *(v.doc_string for v in graph.value_info))

    def _nodes(self, nodes: Nodes, known: set[str], outer: list[set[str]]) -> None:
        """Check nodes in order; `known` ends up holding every name of this scope."""
        reads, writes = [list(node.input) for node in nodes], [list(node.output) for node in nodes]
        produced = _produced(nodes, reads, writes, known)
        scopes = [*outer, known]
        in_order = True
        for node, inputs, outputs in zip(nodes, reads, writes, strict=True):
            for name in inputs:
                if not name or name in known or any(name in scope for scope in outer):
                    continue
                if name not in produced:
                    raise ModelError(f"{describe(node)} reads {quote(name)}, which nothing produces")
                in_order = False
            known.update(outputs)
        known.discard("")
        known.update(produced)
        inner = [graph for node in nodes if node.attribute for graph in subgraphs(node)]
        for graph in inner:
            self._graph(graph, scopes)
        if not in_order or (inner and not _captures_in_order(nodes, produced)):
            self.sorted = False
            _require_acyclic(nodes, produced)


def _produced(nodes: Nodes, reads: list[list[str]], writes: list[list[str]], known: set[str]) -> set[str]:
    produced: set[str] = set()
    for node, inputs, outputs in zip(nodes, reads, writes, strict=True):
        require_text(*inputs, *outputs)
        if not any(outputs):
            raise ModelError(f"{describe(node)} has no output")
        for name in outputs:
            if name and (name in produced or name in known):
                raise ModelError(f"{quote(name)} is produced twice", "every tensor needs one producer")
            produced.add(name)
    produced.discard("")
    return produced


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names a node reads, those that its subgraphs capture included."""
    names = set(node.input)
    for graph in subgraphs(node) if node.attribute else ():
        names |= _captures(graph)
    names.discard("")
    return names


def _captures(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph takes from around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    read = {value.name for value in graph.output}
    for node in graph.node:
        read |= _reads(node)
    return read - own


def _captures_in_order(nodes: Nodes, produced: set[str]) -> bool:
    done: set[str] = set()
    for node in nodes:
        if any(name in produced and name not in done for name in _reads(node)):
            return False
        done.update(node.output)
    return True


def _require_acyclic(nodes: Nodes, produced: set[str]) -> None:
    """Kahn's algorithm."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{producer[name] for name in _reads(node) if name in produced} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(waits):
        for source in sources:
            readers[source].append(index)
    missing = [len(sources) for sources in waits]
    ready = [index for index, count in enumerate(missing) if not count]
    done = 0
    while ready:
        done += 1
        for reader in readers[ready.pop()]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if done < len(nodes):
        stuck = next(node for node, count in zip(nodes, missing, strict=True) if count)
        raise ModelError(f"{describe(stuck)} is part of a cycle, or waits for one")


def _require_unique(names: Sequence[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ModelError(f"{what} {quote(name)} appears twice")
