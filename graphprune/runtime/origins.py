"""Which nodes of a file the nodes that run were made of: fusions keep the names of what they compute."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx_ir as ir

from graphprune.ir.graphs import all_nodes
from graphprune.ir.nodes import is_literal
from graphprune.ops import has
from graphprune.ops.traits import Trait

BLOCKED = re.compile(r"(.*)_nchwc(?:_token_\d+)?")
"""ONNX Runtime names a node that computes in blocks after the result that it replaced."""


class Origins:
    """Answers for one model and the graph that the runtime made of it."""

    def __init__(self, source: ir.Model, running: ir.Model) -> None:
        self._producers = {
            value.name: node for node in all_nodes(source.graph) for value in node.outputs if value.name
        }
        self._nodes = {node.name: node for node in all_nodes(source.graph) if node.name}
        self._made = {node: tuple(self._results(node)) for node in all_nodes(running.graph)}
        self._ends = {name for names in self._made.values() for name in names}

    def of(self, node: ir.Node) -> tuple[str, ...]:
        """Names of the nodes that it computes, in the order of the file; empty where it cannot tell."""
        work = list(self._made[node])
        seen = set(work)
        found: list[ir.Node] = []
        while work:
            producer = self._producers[work.pop()]
            if producer in found or is_literal(producer):
                continue
            found.append(producer)
            read = [value.name for value in producer.inputs if value is not None and value.name]
            work += [
                name
                for name in read
                if name in self._producers and name not in self._ends and name not in seen
            ]
            seen.update(read)
        return tuple(each.name or each.outputs[0].name or "" for each in reversed(found))

    def _results(self, node: ir.Node) -> Iterator[str]:
        """The values of the file that a running node gives."""
        if has(node, Trait.BLOCKS):
            return
        known = [value.name for value in node.outputs if value.name in self._producers]
        if known:
            yield from (name for name in known if name)
            return
        blocked = BLOCKED.fullmatch(node.name or "")
        if blocked and blocked[1] in self._producers:
            yield blocked[1]
        elif node.name in self._nodes:
            yield from (value.name for value in self._nodes[node.name].outputs if value.name)
