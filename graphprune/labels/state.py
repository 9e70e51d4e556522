"""What rules find out together: uses, events, contractions, balances and facts of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.ir.arrays import Ids
from graphprune.ir.shapes import Sizes
from graphprune.labels.algebra import (
    Algebra,
    Label,
)
from graphprune.labels.atoms import Atoms
from graphprune.labels.edits import Edit
from graphprune.labels.options import Options
from graphprune.labels.structures import Branch, Branches, Shuffle, VarianceRegion

Axes = tuple[Label, ...]
Table = npt.NDArray[np.generic]
"""What an index-typed value reads for every position, where it is not the position itself."""


class Use(NamedTuple):
    """One use of an initializer: input `position` of `node`."""

    node: ir.Node
    position: int

    @property
    def value(self) -> ir.Value:
        """The initializer."""
        value = self.node.inputs[self.position]
        assert value is not None
        return value


Step = Literal["kept", "shaped", "transposed"]
"""What a node between a stored weight and the node that multiplies with it makes of its input 0."""
Steps = Callable[[ir.Node], Step | None]
"""None for a node behind which a weight is no longer one."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The way from a stored tensor to a node.

    Attributes:
        value: the initializer.
        steps: constant nodes that it passes, in order; each reads it at input 0.
        axes: for every axis of what the node reads the axis of the tensor; None where axes were merged.
    """

    value: ir.Value
    steps: tuple[ir.Node, ...]
    axes: tuple[int | None, ...]

    def use(self, reader: Use) -> Use:
        """Where the tensor itself is read on the way to a reader."""
        return Use(self.steps[0], 0) if self.steps else reader


class Event(NamedTuple):
    """Why something may not be removed: a reason, and the node at which it was found."""

    reason: str
    node: str = ""
    unblock: str = ""


@dataclass(frozen=True, eq=False)
class Contraction:
    """An edge into a contracting, reducing or normalising node, on its labelled axis.

    Attributes:
        fill: what a removed slot reads as in the reference: "zero", "-inf" (as -1e9), "lowest", "highest".
    """

    node: ir.Node
    position: int
    axis: int
    fill: str = "zero"


@dataclass(frozen=True, eq=False)
class Balance:
    """The axis consists of `blocks` equal blocks, which must all keep the same number of slots."""

    label: Label
    blocks: int
    node: ir.Node


@dataclass(eq=False)
class Facts:
    """Everything that rules establish in one pass over the graph."""

    values: dict[ir.Value, Axes] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    floors: list[tuple[Label, int]] = field(default_factory=list)
    inexact: dict[ir.Node, Label] = field(default_factory=dict)
    indices: dict[ir.Value, Label] = field(default_factory=dict)
    tables: dict[ir.Value, Table] = field(default_factory=dict)
    slots: dict[Branch, Ids] = field(default_factory=dict)
    means: dict[ir.Value, bool] = field(default_factory=dict)
    regions: dict[ir.Node, VarianceRegion] = field(default_factory=dict)


class State:
    """The analysis in progress: atoms, labels of uses, events and the facts of the current pass."""

    def __init__(self, sizes: Sizes, options: Options, opsets: Mapping[str, int], step_of: Steps) -> None:
        self.opsets, self.step_of = dict(opsets), step_of
        self.atoms = Atoms()
        self.algebra = Algebra(self.atoms)
        self.sizes, self.options = sizes, options
        self.uses: dict[Use, Axes] = {}
        self.roles: dict[tuple[Use, int], str] = {}
        self.blocks: dict[tuple[Use, int], int] = {}
        self.events: list[Event] = [Event("fixed by the operator")]
        self._event_ids: dict[tuple[str, str, str], int] = {self.events[0]: 0}
        self.tied: set[tuple[ir.Node, int]] = set()
        self.branches = Branches()
        self.shuffles: dict[ir.Node, Shuffle] = {}
        self.routers: frozenset[ir.Node] = frozenset()
        self.unknown: frozenset[ir.Node] = frozenset()
        self.shared: Mapping[Use, Use] = {}
        self.chains: dict[ir.Value, Chain | None] = {}
        self.facts = Facts()

    def sharing(self, places: set[tuple[ir.Node, int]]) -> set[tuple[ir.Node, int]]:
        """The same places of all nodes that apply the same layers."""
        firsts = {first for use, first in self.shared.items() for node, _ in places if use.node is node}
        return places | {
            (use.node, tag) for use, first in self.shared.items() if first in firsts for _, tag in places
        }

    def forget(self, nodes: set[ir.Node]) -> None:
        """Lets the weights of these nodes start again, where what was said about their blocks has to go."""
        for use in [use for use in self.uses if use.node in nodes]:
            del self.uses[use]
        for key in [key for key in self.blocks if key[0].node in nodes]:
            del self.blocks[key]

    def event(self, reason: str, node: str = "", unblock: str = "") -> int:
        """Returns the number of this event, the same for equal events."""
        known = self._event_ids.get((reason, node, unblock))
        if known is None:
            event = Event(reason, node, unblock)
            known = self._event_ids[event] = len(self.events)
            self.events.append(event)
        return known
