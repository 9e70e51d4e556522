"""Discontinuous operators: where a last bit of a float decides which way a model goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.proof.pairing import Pairing, every_node, is_constant
from graphprune.proof.reference import Reference
from graphprune.proof.survivors import Array, Survivors

COMPARISONS = frozenset("Equal Less LessOrEqual Greater GreaterOrEqual".split())
ROUNDINGS = frozenset("Round Floor Ceil Cast QuantizeLinear DynamicQuantizeLinear".split())
SEARCHES = frozenset("ArgMax ArgMin TopK".split())
DISCONTINUOUS = COMPARISONS | ROUNDINGS | SEARCHES | frozenset("NonMaxSuppression NonZero Sign Hardmax MoE QMoE".split())
FLOATING = frozenset(
    {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
)


@dataclass(frozen=True, eq=False)
class Tap:
    """A value that both models return besides their outputs.

    Attributes:
        value: the dense value that stands for it.
        reference: its name in M_R.
        pruned: its name in the pruned model.
    """

    value: ir.Value
    reference: str
    pruned: str


@dataclass(frozen=True, eq=False)
class Decision:
    """A discontinuous node with its float inputs and its results."""

    node: ir.Node
    inputs: tuple[Tap, ...]
    outputs: tuple[Tap, ...]


def affected(dense: ir.Model, survivors: Survivors) -> set[ir.Node]:
    """Nodes whose inputs the Plan can change: those that hold or follow an edited or cut tensor."""
    edited = {*survivors.plan.replaced, *survivors.plan.masks}
    holders = {use.node for use, labels in survivors.analysis.uses.items() if survivors.touched(*labels)}
    found: set[ir.Node] = set()
    changed: set[ir.Value] = set()
    for node in every_node(dense.graph):
        if node in holders or any(v is not None and (v in changed or v.name in edited) for v in node.inputs):
            found.add(node)
            changed.update(node.outputs)
    return found


def find_decisions(
    dense: ir.Model, survivors: Survivors, reference: Reference, pairing: Pairing
) -> tuple[list[Decision], list[str]]:
    """Discontinuous nodes of the main graph that a Plan can sway, in order, and those inside branches, by name."""
    reached = affected(dense, survivors)
    decisions, hidden = [], []
    for node in every_node(dense.graph):
        if node.op_type not in DISCONTINUOUS or node not in reached or not _floats(node):
            continue
        if node.graph is not dense.graph:
            hidden.append(node.name or node.op_type)
        elif node in pairing.nodes:
            decisions.append(_decision(node, reference.nodes[node], pairing.nodes[node]))
    return decisions, hidden


def _floats(node: ir.Node) -> list[int]:
    """Positions of computed float inputs; a Cast between floats decides nothing."""
    if node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()) in FLOATING:
        return []
    inputs = enumerate(node.inputs)
    return [i for i, v in inputs if v is not None and not is_constant(v) and v.dtype in FLOATING]


def _decision(node: ir.Node, masked: ir.Node, pruned: ir.Node) -> Decision:
    inputs = []
    for position in _floats(node):
        value, one, two = node.inputs[position], masked.inputs[position], pruned.inputs[position]
        if value is not None and one is not None and two is not None:
            inputs.append(Tap(value, one.name or "", two.name or ""))
    triples = zip(node.outputs, masked.outputs, pruned.outputs, strict=True)
    outputs = tuple(Tap(a, b.name or "", c.name or "") for a, b, c in triples if a.uses() or a.is_graph_output())
    return Decision(node, tuple(inputs), outputs)


def behind(nodes: Iterable[ir.Node]) -> set[ir.Value]:
    """Every value that is computed from the results of these nodes."""
    found: set[ir.Value] = set()
    work = list(nodes)
    while work:
        for out in work.pop().outputs:
            if out not in found:
                found.add(out)
                work.extend(user for user, _ in _readers(out))
    return found


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Who reads a value; a reader inside a branch stands for the node that holds the branch too."""
    for user, position in value.uses():
        yield user, position
        graph = user.graph
        while isinstance(graph, ir.Graph) and graph.parent_node is not None:
            yield graph.parent_node, 0
            graph = graph.parent_node.graph


def unexplained(decision: Decision, a: dict[str, Array], b: dict[str, Array], slack: float) -> str:
    """Why two different results of a decision cannot come from rounding; empty when they can.

    Args:
        decision: the node.
        a: dense inputs (kept slots) and results in kept numbering, by name in M_R.
        b: the pruned ones, by the same names.
        slack: the largest difference that rounding may make at its inputs.
    """
    kind, name = decision.node.op_type, f"{decision.node.op_type} {decision.node.name!r}"
    one, two = (side[decision.outputs[0].reference] for side in (a, b))
    if one.shape != two.shape:
        return "" if kind in ("NonMaxSuppression", "NonZero") else f"{name}: results differ in shape"
    wrong = one != two
    if kind in COMPARISONS and len(decision.inputs) == 2:
        left, right = (a[tap.reference] for tap in decision.inputs)
        close = np.abs(np.asarray(left, np.float64) - np.asarray(right, np.float64)) <= 2 * slack
        return "" if np.broadcast_to(close, wrong.shape)[wrong].all() else f"{name}: results differ, but not at ties"
    if kind in ROUNDINGS:
        step = np.abs(one.astype(np.float64) - two.astype(np.float64))
        return "" if (step <= 1).all() else f"{name}: results differ by more than one step"
    if kind in SEARCHES:
        return _search(decision, a, b, slack, name)
    return ""


def _search(decision: Decision, a: dict[str, Array], b: dict[str, Array], slack: float, name: str) -> str:
    """Both picks must be ties in the reference's own values."""
    node, values = decision.node, np.asarray(a[decision.inputs[0].reference], np.float64)
    picks = decision.outputs[-1].reference
    one, two = np.asarray(a[picks]), np.asarray(b[picks])
    if one.dtype.kind not in "iu":
        return ""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else (-1 if node.op_type == "TopK" else 0)
    if one.ndim < values.ndim:
        one, two = np.expand_dims(one, axis), np.expand_dims(two, axis)
    if max(one.max(initial=0), two.max(initial=0)) >= values.shape[axis]:
        return f"{name}: picks a position that is not there"
    gap = np.abs(np.take_along_axis(values, one, axis) - np.take_along_axis(values, two, axis))
    return "" if (gap <= 2 * slack).all() else f"{name}: picks differ, but not at ties"
