"""Unrolled experts: the part of a graph that belongs to one slot of a routing axis, recognised before
labelling.

Exporters write a mixture of experts as one subgraph per expert. The expert's slot is *picked* off a routing
axis (a Gather, Slice or Split of one slot, or a comparison with its number), and what is computed with it
ends where it adds nothing: as one operand of a sum, one piece of a Concat, the updates of a Scatter. If the
slot is removed, the picked value is zero (or selects nothing) in the masked reference; this module follows
that through the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from graphprune.ir.reach import only_for
from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Branch, Branches, Effect, Pick, Sink
from graphprune.ops import has, multiplies
from graphprune.ops.forms.effects import effect_on
from graphprune.ops.forms.picks import find_picks
from graphprune.ops.traits import Trait

LIMIT = 600
"""Nodes that one expert may consist of."""


def find_branches(nodes: Iterable[ir.Node], sizes: Sizes) -> Branches:
    """Recognises the experts of every routing axis of which all slots are picked."""
    order = {node: number for number, node in enumerate(nodes)}
    families = find_picks(order, sizes)
    live = [family for family in families if family[0].state != "any"]
    stacked = [pick for family in families if family[0].state == "any" for pick in family]
    found: list[Branch] = []
    reasons: dict[tuple[ir.Node, int], str] = {}
    for family in live:
        grown = [_Growth(pick, order, sizes).run() for pick in family]
        failed = next((item for item in grown if isinstance(item, str)), None)
        branches = [item for item in grown if isinstance(item, Branch)]
        if failed is None and _same_sums(branches):
            found += _with_weights(branches, stacked, order)
        else:
            reasons |= {
                (pick.node, pick.output): failed or "its experts end in different sums" for pick in family
            }
    return Branches(tuple(found), reasons)


class _Growth:
    """Follows one picked slot forward until everything that reads it has been accounted for."""

    def __init__(self, pick: Pick, order: Mapping[ir.Node, int], sizes: Sizes) -> None:
        self.pick, self.order, self.sizes = pick, order, sizes
        self.effects: dict[ir.Value, Effect] = {pick.value: pick.state}
        self.nodes: set[ir.Node] = set()
        self.sinks: list[Sink] = []

    def run(self) -> Branch | str:
        """The branch, or why the slot cannot be removed by itself."""
        waiting = {user for user, _ in self.pick.value.uses()}
        while waiting:
            node = min(waiting, key=lambda n: self.order.get(n, -1))
            waiting.remove(node)
            if node not in self.order or len(self.nodes) > LIMIT:
                return "an expert is not a part of the main graph"
            why = self._visit(node)
            if why:
                return why
            if node in self.nodes:
                waiting.update(
                    user for out in node.outputs for user, _ in out.uses() if user not in self.nodes
                )
        if any(out.is_graph_output() for value in self.effects for out in (value,)):
            return "what a single expert computes is a graph output"
        if not self.sinks:
            return "its expert ends nowhere"
        return Branch(self.pick, frozenset(self.nodes), tuple(self.sinks))

    def _visit(self, node: ir.Node) -> str:
        mine = {p: self.effects[v] for p, v in enumerate(node.inputs) if v is not None and v in self.effects}
        found = effect_on(node, mine, self.sizes)
        match found:
            case None:
                return f"{node.op_type} reads a single expert's part of its axis"
            case "start":
                return self._continued(node)
            case "sum" | "piece" | "updates":
                self.sinks += [Sink(node, position, found) for position in mine]
            case _:
                self.nodes.add(node)
                self.effects.update(dict.fromkeys(node.outputs, found))
        return ""

    def _continued(self, node: ir.Node) -> str:
        """The Range behind a branch's own starts where that one ends; without the branch, where it starts."""
        own = [n for n in self.nodes if n.op_type == node.op_type and n.inputs[1] is node.inputs[0]]
        if not own:
            return "Range starts at a single expert's part of its axis"
        self.sinks.append(Sink(node, 0, "start", own[0]))
        return ""


def _same_sums(branches: list[Branch]) -> bool:
    """Whether all branches end in the same sums, so that one that stays keeps every sum alive."""
    ends = [Counter(_root(s) for s in branch.sinks if s.kind in ("sum", "piece")) for branch in branches]
    return all(end.keys() == ends[0].keys() for end in ends)


def _root(sink: Sink) -> ir.Node:
    """The last node of the tree of additions that a sink belongs to."""
    node = sink.node
    while sink.kind == "sum":
        users = [user for user, _ in node.outputs[0].uses()]
        if len(users) != 1 or not has(users[0], Trait.SUM) or node.outputs[0].is_graph_output():
            break
        node = users[0]
    return node


def _with_weights(branches: list[Branch], stacked: list[Pick], order: Mapping[ir.Node, int]) -> list[Branch]:
    """Adds to each branch what is computed only for it, and its slots of stacked weights."""
    done = []
    for branch in branches:
        nodes = only_for(set(branch.nodes), branch.pick.node)
        others = tuple(pick for pick in stacked if pick.value.uses() and _readers(pick) <= nodes)
        done.append(Branch(branch.pick, frozenset(nodes), branch.sinks, others))
    return done if all(_holds_weights(branch) for branch in done) else []


def _readers(pick: Pick) -> set[ir.Node]:
    return {user for user, _ in pick.value.uses()}


def _holds_weights(branch: Branch) -> bool:
    """Whether a branch computes with weights of its own: a slot without any is a gate, not an expert."""
    if branch.others:
        return True
    weighted = (node for node in branch.nodes if multiplies(node))
    return any(
        v is not None and v.const_value is not None and v.producer() is None
        for n in weighted
        for v in n.inputs
    )
