"""Structures of several nodes that are recognised before labelling, as values that rules and edits read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import onnx_ir as ir

from graphprune.ir.arrays import Ids

Effect = Literal["zero", "empty", "offset", "any"]
"""Zero everywhere; without rows; equal to the slot before it (a running count); of no interest."""


@dataclass(frozen=True, eq=False)
class Pick:
    """Output `output` of `node` is slot `slot` of axis `axis` of input `position`.

    Attributes:
        state: what the picked value is once its slot is removed.
    """

    node: ir.Node
    output: int
    position: int
    axis: int
    slot: int
    state: Effect

    @property
    def value(self) -> ir.Value:
        """The value that holds the picked slot."""
        return self.node.outputs[self.output]


SinkKind = Literal["sum", "piece", "updates", "start"]


@dataclass(frozen=True, eq=False)
class Sink:
    """Where a branch ends: input `position` of `node` adds nothing once the branch is gone.

    Attributes:
        kind: an operand of a sum, a piece of a Concat, the updates of a Scatter, or the start of a Range that
            continues where the branch's own Range (`follows`) ends.
    """

    node: ir.Node
    position: int
    kind: SinkKind
    follows: ir.Node | None = None


@dataclass(frozen=True, eq=False)
class Branch:
    """Everything that goes with one slot of a routing axis.

    Attributes:
        pick: where the slot is picked.
        nodes: what is computed with it or only for it.
        sinks: where it ends.
        others: picks of stacked tensors that only this branch reads; their slots go with it.
    """

    pick: Pick
    nodes: frozenset[ir.Node]
    sinks: tuple[Sink, ...]
    others: tuple[Pick, ...] = ()


@dataclass(frozen=True)
class Branches:
    """All branches of a graph, and a reason for every pick of an expert that is not one."""

    found: tuple[Branch, ...] = ()
    reasons: Mapping[tuple[ir.Node, int], str] = field(default_factory=dict)

    @cached_property
    def picks(self) -> dict[tuple[ir.Node, int], Branch]:
        """The branch by node and output of every pick."""
        return {(pick.node, pick.output): b for b in self.found for pick in (b.pick, *b.others)}

    @cached_property
    def pieces(self) -> dict[tuple[ir.Node, int], Branch]:
        """The branch by node and input of every piece of a Concat."""
        return {(s.node, s.position): b for b in self.found for s in b.sinks if s.kind == "piece"}


@dataclass(frozen=True, eq=False)
class Shuffle:
    """out = in, with slot order[j] of axis `axis` at place j.

    Attributes:
        first, middle, last: the Reshape that parts the axis, the Transpose, the Reshape that joins it again.
        helpers: nodes that only compute the shapes of the two Reshapes.
    """

    first: ir.Node
    middle: ir.Node
    last: ir.Node
    axis: int
    order: Ids
    helpers: frozenset[ir.Node]

    @property
    def source(self) -> ir.Value:
        """What is shuffled."""
        value = self.first.inputs[0]
        assert value is not None
        return value


@dataclass(frozen=True, eq=False)
class VarianceRegion:
    """mean = ReduceMean(x); d = x - mean; variance = ReduceMean(d * d).

    `fused`: whether ONNX Runtime makes one kernel of it, which primitive operators that keep n are not.
    """

    mean: ir.Node
    variance: ir.Node
    centred: tuple[ir.Node, ...]
    fused: bool
