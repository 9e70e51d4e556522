"""A copy of a model that shares its weights and remembers which part came from where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from graphprune.ir.graphs import graphs_of


@dataclass(frozen=True, eq=False)
class Copy:
    """A copied model.

    Attributes:
        model: the copy; its tensors are the original's.
        nodes: copy of each node, subgraphs included.
        values: copy of each value.
    """

    model: ir.Model
    nodes: dict[ir.Node, ir.Node]
    values: dict[ir.Value, ir.Value]

    def original(self, node: ir.Node) -> ir.Node:
        """The node that a copied node was made from."""
        return self._originals[node]

    @cached_property
    def _originals(self) -> dict[ir.Node, ir.Node]:
        return {copy: original for original, copy in self.nodes.items()}


def copy_model(model: ir.Model) -> Copy:
    """Copies graphs, nodes and values; tensors are shared, because nothing ever changes one in place."""
    copy = model.clone()
    nodes: dict[ir.Node, ir.Node] = {}
    values: dict[ir.Value, ir.Value] = {}
    for old, new in zip(graphs_of(model), graphs_of(copy), strict=True):
        values.update(zip(old.inputs, new.inputs, strict=True))
        for name, value in old.initializers.items():
            values[value] = new.initializers[name]
        for one, two in zip(old, new, strict=True):
            nodes[one] = two
            values.update(zip(one.outputs, two.outputs, strict=True))
    return Copy(copy, nodes, values)
