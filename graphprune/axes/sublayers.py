"""Residual sublayers: branches that add something to a stream and that nothing else reads.

A branch ends as one operand of a sum, another operand of which the branch is computed from. Without the
branch the sum is its other operand. This covers attention and feed-forward sublayers (before or after a norm,
between two norms, side by side on one stream) and convolution blocks whose shortcut is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.caches import cache_pairs
from graphprune.axes.tried import parted
from graphprune.ops import has, multiplies
from graphprune.ops.traits import Trait

SUM_LIMIT = 8
"""Sums behind sums that are followed for blocks that lie side by side."""


@dataclass(frozen=True, eq=False)
class Sublayer:
    """A branch that may go.

    Attributes:
        branch: what the branch computes; its name identifies the sublayer.
        join: the sum that reads it, and nothing else does.
        position: of the branch among the operands of the sum.
        stream: the operand of the sum (or of a sum of sums) that the branch is computed from.
        nodes: everything that is computed for the branch alone.
        caches: past inputs and present outputs of the model that only the branch uses.
    """

    branch: ir.Value
    join: ir.Node
    position: int
    stream: ir.Value
    nodes: frozenset[ir.Node]
    caches: tuple[tuple[ir.Value, ir.Value], ...] = ()

    @property
    def name(self) -> str:
        """The name of the branch's result."""
        return self.branch.name or ""


@dataclass(frozen=True)
class Sublayers:
    """All sublayers of a model in graph order, and why other branches are none.

    Attributes:
        found: what may go.
        reasons: by name of the branch, for branches with weights that something holds back.
    """

    found: tuple[Sublayer, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def named(self, names: Iterable[str]) -> tuple[Sublayer, ...]:
        """The sublayers with these names, in graph order; names of none are ignored."""
        wanted = set(names)
        return tuple(sublayer for sublayer in self.found if sublayer.name in wanted)


def find_sublayers(analysis: Analysis) -> Sublayers:
    """Recognises the residual sublayers of a model."""
    search = _Search(analysis)
    found, reasons = parted(
        (_name(join, position), search.sublayer(join, position)) for join, position in search.operands()
    )
    names = {item.name for item in found}
    return Sublayers(tuple(item for item in found if not _is_sum_of(item, names)), reasons)


def _name(join: ir.Node, position: int) -> str:
    value = join.inputs[position]
    return (value.name if value is not None else "") or ""


def _is_sum_of(item: Sublayer, names: set[str]) -> bool:
    """Whether a branch is only the sum of branches that may go by themselves."""
    producer = item.branch.producer()
    return (
        producer is not None
        and has(producer, Trait.SUM)
        and all(value is not None and value.name in names for value in producer.inputs)
    )


def gone_with(sublayers: Iterable[Sublayer]) -> set[ir.Node]:
    """Everything that goes with these sublayers: also sums left with nothing, and norms that none reads."""
    chosen = list(sublayers)
    nodes = {node for item in chosen for node in item.nodes}
    dropped: dict[ir.Node, set[int]] = {}
    for item in chosen:
        dropped.setdefault(item.join, set()).add(item.position)
    work = list(dropped)
    while work:
        join = work.pop()
        if len(dropped[join]) == len(join.inputs):
            nodes.add(join)
            for user, position in join.outputs[0].uses():
                dropped.setdefault(user, set()).add(position)
                work.append(user)
    read = [value for node in nodes for value in node.inputs]
    while read:
        value = read.pop()
        producer = value.producer() if value is not None else None
        if producer is None or producer in nodes or any(out.is_graph_output() for out in producer.outputs):
            continue
        if _read_only_by(producer, nodes):
            nodes.add(producer)
            read.extend(producer.inputs)
    return nodes


class _Search:
    """What the search for the sublayers of one graph remembers."""

    def __init__(self, analysis: Analysis) -> None:
        self.graph, self.sizes = analysis.model.graph, analysis.sizes
        self.order = {node: number for number, node in enumerate(self.graph)}
        self.pasts = {present: past for past, present in cache_pairs(self.graph).items()}
        experts = analysis.state.branches.found
        self.experts = {(sink.node, sink.position) for branch in experts for sink in branch.sinks}

    def operands(self) -> Iterator[tuple[ir.Node, int]]:
        """Operands of sums that nothing else reads and without which the sum keeps its shape."""
        for node in self.order:
            if not has(node, Trait.SUM):
                continue
            for position, value in enumerate(node.inputs):
                if self._is_extra(node, position, value):
                    yield node, position

    def _is_extra(self, node: ir.Node, position: int, value: ir.Value | None) -> bool:
        if value is None or value.producer() is None or len(value.uses()) != 1 or value.is_graph_output():
            return False
        shapes, out = self.sizes.shapes, self.sizes.shapes.get(node.outputs[0])
        others = [v for p, v in enumerate(node.inputs) if p != position and v is not None]
        whole = out is not None and any(shapes.get(other) == out for other in others)
        return whole and (node, position) not in self.experts

    def sublayer(self, join: ir.Node, position: int) -> Sublayer | str:
        """The sublayer that ends here, why there is none, or "" where it is not even a residual branch."""
        branch = join.inputs[position]
        assert branch is not None
        nodes, held = self._only_for(branch)
        if not any(_weighted(node) for node in nodes):
            return ""
        stream = self._stream(join, position, branch, nodes)
        if stream is None:
            return ""
        if held is not None:
            return f"graph output '{held.name}' hangs on it"
        if join.outputs[0].is_graph_output():
            return f"its sum is the graph output '{join.outputs[0].name}'"
        if any(_bodies(node) for node in nodes):
            return "it holds a nested graph"
        caches = tuple((self.pasts[v], v) for node in nodes for v in node.outputs if v.is_graph_output())
        for past, _ in caches:
            if any(user not in nodes for user, _ in past.uses()):
                return f"its cache input '{past.name}' is read elsewhere"
        ordered = sorted(caches, key=lambda pair: pair[0].name or "")
        return Sublayer(branch, join, position, stream, frozenset(nodes), tuple(ordered))

    def _stream(self, join: ir.Node, position: int, branch: ir.Value, nodes: set[ir.Node]) -> ir.Value | None:
        """The operand of the sum, or of the tree of sums around it, that the branch is computed from."""
        node = join
        others = [v for p, v in enumerate(join.inputs) if p != position]
        for _ in range(SUM_LIMIT):
            for value in _leaves(others):
                if self._precedes(value, branch, nodes):
                    return value
            out = node.outputs[0]
            user = next((u for u, _ in out.uses()), None)
            if user is None or len(out.uses()) != 1 or not has(user, Trait.SUM) or out.is_graph_output():
                return None
            if self.sizes.shapes.get(user.outputs[0]) != self.sizes.shapes.get(out):
                return None
            node, others = user, [v for v in user.inputs if v is not out]
        return None

    def _precedes(self, first: ir.Value, last: ir.Value, nodes: set[ir.Node]) -> bool:
        """Whether a branch is computed from a value, in the branch itself or behind a norm that others share.

        What comes to it through other layers does not count: a position bias that every layer adds to its
        scores is no stream, although the scores of the second layer depend on it.
        """
        producer = first.producer()
        if first.const_value is not None and producer is None:
            return False
        start = -1 if producer is None else self.order.get(producer, len(self.order))
        work, seen = [last], {last}
        while work:
            maker = work.pop().producer()
            if maker is None or self.order.get(maker, -1) <= start:
                continue
            if maker not in nodes and multiplies(maker):
                continue
            for value in maker.inputs:
                if value is first:
                    return True
                if value is not None and value not in seen:
                    seen.add(value)
                    work.append(value)
        return False

    def _only_for(self, branch: ir.Value) -> tuple[set[ir.Node], ir.Value | None]:
        """Nodes whose results only the branch reads, and a graph output that is one of these results."""
        nodes: set[ir.Node] = set()
        held: ir.Value | None = None
        work = [branch]
        while work:
            producer = work.pop().producer()
            if producer is None or producer in nodes or producer not in self.order:
                continue
            if producer is not branch.producer() and not _read_only_by(producer, nodes):
                continue
            outputs = [v for v in producer.outputs if v.is_graph_output() and v not in self.pasts]
            held = outputs[0] if outputs else held
            nodes.add(producer)
            work.extend(value for value in producer.inputs if value is not None)
        return nodes, held


def _read_only_by(node: ir.Node, readers: set[ir.Node]) -> bool:
    users = [user for out in node.outputs for user, _ in out.uses()]
    return bool(users) and all(user in readers for user in users)


def _leaves(values: Iterable[ir.Value | None]) -> Iterator[ir.Value]:
    """The values, what was cast to them, and the operands of those that are sums nothing else reads."""
    for value in values:
        if value is None:
            continue
        yield value
        producer = value.producer()
        if producer is not None and has(producer, Trait.SUM, Trait.CAST) and len(value.uses()) == 1:
            yield from _leaves(producer.inputs)


def _weighted(node: ir.Node) -> bool:
    """Whether a node multiplies by weights; a branch without such a node is arithmetic, not a layer."""
    return multiplies(node) and any(_learned(value) for value in node.inputs)


def _learned(value: ir.Value | None) -> bool:
    """Whether an operand is a weight, possibly behind a few operators that unpack it."""
    for _ in range(SUM_LIMIT):
        if value is None:
            return False
        producer = value.producer()
        if producer is None:
            return value.const_value is not None
        if len(producer.inputs) == 0 or not has(producer, *UNPACKING):
            return False
        value = producer.inputs[0]
    return False


UNPACKING = (Trait.LAYOUT, Trait.CAST, Trait.DEQUANTISE)


def _bodies(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())
