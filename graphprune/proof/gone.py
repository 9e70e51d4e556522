"""Nodes that go with a removed expert or sublayer, and what their readers read instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from graphprune.axes.sublayers import Sublayer, gone_with
from graphprune.labels.structures import Branch, Shuffle

Read = tuple[ir.Node, int]
"""An input of a dense node."""


@dataclass(eq=False)
class Gone:
    """What removed experts and sublayers leave behind.

    Attributes:
        nodes: dense nodes without a counterpart.
        aliases: where the value is read that stands for one whose node was bypassed.
        dropped: input positions that a node lost.
        moved: inputs that read what another input reads.
        ends: graph inputs and outputs that go (both ends of a cache).
    """

    nodes: set[ir.Node] = field(default_factory=set)
    aliases: dict[ir.Value, Read] = field(default_factory=dict)
    dropped: dict[ir.Node, set[int]] = field(default_factory=dict)
    moved: dict[Read, Read] = field(default_factory=dict)
    ends: set[ir.Value] = field(default_factory=set)

    def stands_for(self, value: ir.Value | None) -> ir.Value | None:
        """The dense value that is read in place of this one."""
        while value is not None and value in self.aliases:
            node, position = self.aliases[value]
            value = node.inputs[position]
        return value

    def read(self, node: ir.Node, position: int) -> Read:
        """The dense input that says what the counterpart of a node reads at a position."""
        place = self.moved.get((node, position), (node, position))
        value = place[0].inputs[place[1]] if place[1] < len(place[0].inputs) else None
        while value is not None and value in self.aliases:
            place = self.aliases[value]
            value = place[0].inputs[place[1]]
        return place

    def inputs(self, node: ir.Node) -> list[ir.Value | None]:
        """The dense values that the counterpart of a node reads."""
        lost = self.dropped.get(node, set())
        places = [self.read(node, p) for p in range(len(node.inputs)) if p not in lost]
        return [owner.inputs[position] for owner, position in places]


def without(branches: Iterable[Branch], bypassed: Iterable[Sublayer] = ()) -> Gone:
    """Works out what the removal of these experts and sublayers leaves."""
    gone = Gone()
    ordered = sorted(branches, key=lambda branch: branch.pick.slot)
    for branch in ordered:
        gone.nodes |= branch.nodes
        gone.nodes |= {p.node for p in (branch.pick, *branch.others) if p.node.op_type != "Split"}
        for sink in branch.sinks:
            if sink.follows is not None:
                gone.moved[(sink.node, 0)] = gone.moved.get((sink.follows, 0), (sink.follows, 0))
            elif sink.kind == "updates":
                _alias(gone, sink.node, 0)
            else:
                gone.dropped.setdefault(sink.node, set()).add(sink.position)
    layers = list(bypassed)
    gone.nodes |= gone_with(layers)
    for sublayer in layers:
        gone.ends.update(end for pair in sublayer.caches for end in pair)
        gone.dropped.setdefault(sublayer.join, set()).add(sublayer.position)
    _sums(gone)
    return gone


def gathered(gone: Gone, shuffle: Shuffle) -> None:
    """A Gather stands for the last node of a shuffle and reads what the first one read."""
    _alias(gone, shuffle.first, 0)
    _alias(gone, shuffle.middle, 0)
    gone.nodes |= shuffle.helpers


def _alias(gone: Gone, node: ir.Node, position: int) -> None:
    gone.aliases[node.outputs[0]] = (node, position)
    gone.nodes.add(node)


def _sums(gone: Gone) -> None:
    """A sum left with one operand is that operand; one left with none is itself a lost operand."""
    work = [node for node in gone.dropped if node.op_type in ("Add", "Sum")]
    while work:
        node = work.pop()
        left = [p for p in range(len(node.inputs)) if p not in gone.dropped[node]]
        if len(left) == 1:
            _alias(gone, node, left[0])
        elif not left:
            gone.aliases.pop(node.outputs[0], None)
            gone.nodes.add(node)
            for user, position in node.outputs[0].uses():
                gone.dropped.setdefault(user, set()).add(position)
                work.append(user)
