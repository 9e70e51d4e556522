"""Discontinuous operators: where a last bit of a float decides which way a model goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.graphs import all_nodes
from graphprune.ir.names import called
from graphprune.proof.pairing import Pairing, contents, is_constant, subgraphs
from graphprune.proof.reference import Reference
from graphprune.proof.scales import FLOATING, SQUASHING, squashers
from graphprune.proof.survivors import Survivors

COMPARISONS = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
CASTS = frozenset({"Cast", "CastLike"})
ROUNDINGS = CASTS | {"Round", "Floor", "Ceil", "QuantizeLinear", "DynamicQuantizeLinear"}
SEARCHES = frozenset({"ArgMax", "ArgMin", "TopK"})
OTHERS = frozenset({"NonMaxSuppression", "NonZero", "Sign", "Hardmax", "MoE", "QMoE"})
DISCONTINUOUS = COMPARISONS | ROUNDINGS | SEARCHES | OTHERS

Holders = dict[ir.Graph | ir.Function | None, ir.Node]


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
    """A discontinuous node.

    Attributes:
        node: the dense node.
        inputs: its computed float inputs.
        constants: its constant inputs, kept slots only.
        outputs: its results that something reads.
    """

    node: ir.Node
    inputs: tuple[Tap, ...]
    constants: tuple[Array, ...]
    outputs: tuple[Tap, ...]


def affected(dense: ir.Model, survivors: Survivors) -> set[ir.Node]:
    """Nodes whose inputs the Plan can change: those that hold or follow an edited or cut tensor."""
    edited = {*survivors.plan.replaced, *survivors.plan.masks}
    holders = {use.node for use, labels in survivors.analysis.uses.items() if survivors.touched(*labels)}
    holders |= {sublayer.join for sublayer in survivors.bypassed}
    outer = find_holders(dense)
    found: set[ir.Node] = set()
    changed: set[ir.Value] = set()
    for node in all_nodes(dense.graph):
        if node in holders or any(v is not None and (v in changed or v.name in edited) for v in node.inputs):
            work: ir.Node | None = node
            while work is not None and work not in found:
                found.add(work)
                changed.update(work.outputs)
                work = outer.get(work.graph)
    return found


def find_decisions(
    dense: ir.Model, survivors: Survivors, reference: Reference, pairing: Pairing
) -> tuple[list[Decision], list[str]]:
    """Discontinuous nodes that a Plan can sway: in the main graph, and in branches (by name).

    Those that squash what is decided or returned are among them: it is their input that is compared.
    """
    reached = affected(dense, survivors)
    jumps = [node for node in all_nodes(dense.graph) if node.op_type in DISCONTINUOUS and node in reached]
    ends = [*dense.graph.outputs, *(node.inputs[position] for node in jumps for position in _floats(node))]
    decisive = {*jumps, *(node for value in ends for node in squashers(value))}
    decisions, hidden = [], []
    for node in all_nodes(dense.graph):
        if node not in decisive or node not in reached or not _floats(node):
            continue
        if node.graph is not dense.graph:
            hidden.append(node.name or node.op_type)
        elif node in pairing.nodes:
            decisions.append(_decision(survivors, node, reference.nodes[node], pairing.nodes[node]))
    return decisions, hidden


def _floats(node: ir.Node) -> list[int]:
    """Positions of computed float inputs; a cast between floats decides nothing."""
    if node.op_type in CASTS and node.outputs[0].dtype in FLOATING:
        return []
    inputs = enumerate(node.inputs)
    return [i for i, v in inputs if v is not None and not is_constant(v) and v.dtype in FLOATING]


def _decision(survivors: Survivors, node: ir.Node, masked: ir.Node, pruned: ir.Node) -> Decision:
    fixed = []
    for position, value in enumerate(node.inputs):
        if is_constant(value):
            array = np.asarray(contents(value).numpy())
            fixed.append(survivors.restrict(array, survivors.edge(node, position)))
    inputs = []
    for position in _floats(node):
        value, one, two = node.inputs[position], masked.inputs[position], pruned.inputs[position]
        assert value is not None and one is not None
        if two is not None:
            inputs.append(Tap(value, one.name or "", two.name or ""))
    if node.op_type in SQUASHING:
        return Decision(node, tuple(inputs), tuple(fixed), ())
    triples = zip(node.outputs, masked.outputs, pruned.outputs, strict=True)
    read = [triple for triple in triples if triple[0].uses() or triple[0].is_graph_output()]
    outputs = tuple(Tap(value, one.name or "", two.name or "") for value, one, two in read)
    return Decision(node, tuple(inputs), tuple(fixed), outputs)


def behind(nodes: Iterable[ir.Node], holders: Holders) -> set[ir.Value]:
    """Every value that is computed from what these nodes decide."""
    found: set[ir.Value] = set()
    work = [(node, _jumping(node)) for node in nodes]
    while work:
        node, outputs = work.pop()
        if node.graph in holders:
            work.append((holders[node.graph], holders[node.graph].outputs))
        for out in set(outputs) - found:
            found.add(out)
            work.extend((user, user.outputs) for user, _ in out.uses())
    return found


def _jumping(node: ir.Node) -> Sequence[ir.Value]:
    """Results that a rounding error changes by more than itself; the k largest values in order are none."""
    ordered = "sorted" not in node.attributes or node.attributes["sorted"].as_int()
    return node.outputs[1:] if node.op_type == "TopK" and ordered else node.outputs


def find_holders(model: ir.Model) -> Holders:
    """The node that holds each nested graph."""
    return {graph: node for node in all_nodes(model.graph) for graph in subgraphs(node)}


def unexplained(decision: Decision, a: dict[str, Array], b: dict[str, Array], gap: float) -> str:
    """Why two different results of a decision cannot come from rounding; empty when they can.

    Args:
        decision: the node.
        a: dense inputs (kept slots) and results in kept numbering, by name in M_R.
        b: the pruned ones, by the same names.
        gap: the largest difference of its inputs.
    """
    kind, name = decision.node.op_type, called(decision.node)
    one, two = (side[decision.outputs[0].reference] for side in (a, b))
    if one.shape != two.shape:
        return "" if kind in ("NonMaxSuppression", "NonZero") else f"{name}: results differ in shape"
    wrong = one != two
    operands = [*(a[tap.reference] for tap in decision.inputs), *decision.constants]
    if kind in COMPARISONS:
        left, right = operands
        close = np.abs(np.asarray(left, np.float64) - np.asarray(right, np.float64)) <= 2 * gap
        ties = bool(np.broadcast_to(close, wrong.shape)[wrong].all())
        return "" if ties else f"{name}: results differ, but not at ties"
    if kind in ROUNDINGS:
        step = np.abs(one.astype(np.float64) - two.astype(np.float64))
        return "" if (step <= 1).all() else f"{name}: results differ by more than one step"
    if kind in SEARCHES:
        return _search(decision, a, b, gap, name)
    return ""


def _search(decision: Decision, a: dict[str, Array], b: dict[str, Array], gap: float, name: str) -> str:
    """Both picks must be ties in the reference's own values."""
    node = decision.node
    values: Doubles = a[decision.inputs[0].reference].astype(np.float64)
    picks = decision.outputs[-1].reference
    if a[picks].dtype.kind not in "iu":
        return ""
    one, two = a[picks].astype(np.int64), b[picks].astype(np.int64)
    default = -1 if node.op_type == "TopK" else 0
    axis = node.attributes.get_int("axis", default)
    if one.ndim < values.ndim:
        one, two = np.expand_dims(one, axis), np.expand_dims(two, axis)
    if max(one.max(initial=0), two.max(initial=0)) >= values.shape[axis]:
        return f"{name}: picks a position that is not there"
    apart = np.abs(np.take_along_axis(values, one, axis) - np.take_along_axis(values, two, axis))
    return "" if (apart <= 2 * gap).all() else f"{name}: picks differ, but not at ties"
