"""A rewrite in progress: the copy of the model, what is kept, and how nodes and constants get in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Array
from graphprune.ir.build import Names, graph_of, initializer, new_node
from graphprune.ir.clone import Copy
from graphprune.labels.edits import DenseShape
from graphprune.labels.state import Use
from graphprune.prune.plan import Plan

INSERTED = "graphprune/"
"""Prefix of the names of nodes and initializers that a rewrite adds."""


@dataclass
class Rewriting:
    """State of one rewrite.

    Attributes:
        analysis: of the dense model.
        plan: what to carry out.
        kept: slots and counts that survive.
        copy: the model under change and its correspondence to the dense one.
        scales: factors that initializer uses get after slicing.
        corrected: replacement of a dense value whose mean was corrected.
        moved: node and input position that read an initializer in place of a dense use that is gone.
    """

    analysis: Analysis
    plan: Plan
    kept: Kept
    copy: Copy
    scales: dict[Use, float] = field(default_factory=dict)
    corrected: dict[ir.Value, ir.Value] = field(default_factory=dict)
    moved: dict[Use, tuple[ir.Node, int]] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        """The model's version of the default operator set."""
        return self.analysis.model.opset_imports.get("", 1)

    def node(self, original: ir.Node) -> ir.Node:
        """The copy of a dense node."""
        return self.copy.nodes[original]

    def reader(self, use: Use) -> tuple[ir.Node, int]:
        """Where the copy reads what this dense use reads."""
        return self.moved.get(use, (self.copy.nodes[use.node], use.position))

    @cached_property
    def restored(self) -> frozenset[ir.Node]:
        """Shape nodes of the dense model whose results stay what they were."""
        return frozenset(edit.node for edit in self.analysis.edits if isinstance(edit, DenseShape))

    @cached_property
    def names(self) -> Names:
        """Names that nothing in the model has, also when an earlier pass inserted nodes."""
        nodes = (node.name for node in self.copy.nodes.values())
        return Names(INSERTED, (*nodes, *(value.name for value in self.copy.values.values())))

    def constant(self, near: ir.Node, array: Array, hint: str) -> ir.Value:
        """Adds an initializer to the graph of `near`."""
        return initializer(graph_of(near), self.names.fresh(f"{hint}/"), array)


class Chain:
    """Inserts nodes one behind the other."""

    def __init__(self, rewriting: Rewriting, after: ir.Node) -> None:
        self.rewriting, self.last = rewriting, after
        self.made: set[ir.Node] = set()

    def __call__(self, op: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
        """Inserts one node and returns its output."""
        node = new_node(op, inputs, self.rewriting.names.fresh(f"{op}/"), attributes)
        graph_of(self.last).insert_after(self.last, node)
        self.last = node
        self.made.add(node)
        return node.outputs[0]

    def sum_last(self, value: ir.Value) -> ir.Value:
        """ReduceSum over the last axis, kept as size 1."""
        if self.rewriting.opset >= 13:
            axes = self.rewriting.constant(self.last, np.array([-1], np.int64), "axes")
            return self("ReduceSum", value, axes, keepdims=1)
        out = self("ReduceSum", value, keepdims=1)
        self.last.attributes["axes"] = ir.AttrInt64s("axes", [-1])
        return out
