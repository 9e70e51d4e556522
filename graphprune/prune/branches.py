"""Takes experts and sublayers out of a copy: their ends are bypassed, what nothing reads any more goes."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.axes.sublayers import Sublayer, find_sublayers, gone_with
from graphprune.ir.build import graph_of, supersede
from graphprune.labels.edits import BranchRemoval
from graphprune.labels.state import Use
from graphprune.labels.structures import Branch, Sink
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.prune.rewriting import INSERTED, Rewriting


def remove_branches(rewriting: Rewriting) -> None:
    """Carries out every BranchRemoval whose slot is removed, and removes the plan's bypassed sublayers."""
    edits = [e for e in rewriting.analysis.edits if isinstance(e, BranchRemoval)]
    gone = [e.branch for e in edits if rewriting.kept.count(e.label) == 0]
    names = rewriting.plan.bypassed
    bypassed = find_sublayers(rewriting.analysis).named(names) if names else ()
    if not gone and not bypassed:
        return
    gone.sort(key=lambda branch: branch.pick.slot)
    sinks = [sink for branch in gone for sink in branch.sinks]
    sinks += [Sink(sublayer.join, sublayer.position, "sum") for sublayer in bypassed]
    for sink in sinks:
        if sink.follows is not None:
            start = rewriting.node(sink.follows).inputs[0]
            rewriting.node(sink.node).replace_input_with(0, start)
        elif sink.kind == "updates":
            _bypass(rewriting, sink.node, 0)
    _shorten(rewriting, sinks)
    graph = rewriting.copy.model.graph
    ends = [pair for sublayer in bypassed for pair in sublayer.caches]
    lost = {rewriting.copy.values[present] for _, present in ends}
    graph.outputs[:] = [value for value in graph.outputs if value not in lost]
    _sweep(rewriting, gone, bypassed, sinks)
    lost = {rewriting.copy.values[past] for past, _ in ends}
    graph.inputs[:] = [value for value in graph.inputs if value not in lost]


def _bypass(rewriting: Rewriting, dense: ir.Node, position: int) -> None:
    """Readers of the node read its input instead."""
    node = rewriting.node(dense)
    value = node.inputs[position]
    assert value is not None
    reader = next(iter(node.outputs[0].uses()), None)
    supersede(node.outputs[0], value, ())
    for use, place in [*rewriting.moved.items(), (Use(dense, position), (node, position))]:
        if reader is not None and place == (node, position):
            rewriting.moved[use] = (reader[0], reader[1])


def _shorten(rewriting: Rewriting, sinks: list[Sink]) -> None:
    """Drops operands of sums and pieces of Concats; a sum of one operand is that operand."""
    dropped: dict[ir.Node, set[int]] = {}
    for sink in sinks:
        if sink.kind in ("sum", "piece"):
            dropped.setdefault(sink.node, set()).add(sink.position)
    for node in [n for n in rewriting.copy.nodes if n in _closure(dropped)]:  # in graph order
        positions = dropped.get(node, set())
        left = [p for p in range(len(node.inputs)) if p not in positions]
        copy = rewriting.node(node)
        if has(node, Trait.CONCAT) or len(left) > 1:
            _keep_inputs(copy, left)
        elif left:
            _bypass(rewriting, node, left[0])
        else:
            for user, position in node.outputs[0].uses():
                dropped.setdefault(user, set()).add(position)


def _closure(dropped: dict[ir.Node, set[int]]) -> set[ir.Node]:
    """The ends themselves, and sums behind sums, which may lose an operand in turn."""
    found = set(dropped)
    work = list(dropped)
    while work:
        node = work.pop()
        if has(node, Trait.SUM):
            fresh = {user for user, _ in node.outputs[0].uses() if has(user, Trait.SUM)} - found
            found |= fresh
            work.extend(fresh)
    return found


def _keep_inputs(node: ir.Node, positions: list[int]) -> None:
    if len(positions) == len(node.inputs):
        return
    values = [node.inputs[position] for position in positions]
    for index, value in enumerate(values):
        node.replace_input_with(index, value)
    node.resize_inputs(len(values))


def _sweep(
    rewriting: Rewriting, gone: list[Branch], bypassed: tuple[Sublayer, ...], sinks: list[Sink]
) -> None:
    """Removes the branches' nodes and whatever an edit inserted around them, readers first."""
    dense = {node for branch in gone for node in branch.nodes}
    dense |= gone_with(bypassed)
    dense |= {p.node for b in gone for p in (b.pick, *b.others) if len(p.node.outputs) == 1}
    dense |= _closure({sink.node: set() for sink in sinks})
    mortal = {rewriting.node(node) for node in dense}
    for node in reversed(list(rewriting.copy.model.graph)):
        if node not in mortal and not (node.name or "").startswith(INSERTED):
            continue
        if not any(out.uses() or out.is_graph_output() for out in node.outputs):
            graph_of(node).remove(node, safe=True)
