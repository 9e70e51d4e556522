"""Cuts the main graph where few values are alive, so that a model can run piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.shapes import Sizes
from graphprune.statistics.sites import Site

UNKNOWN_ELEMENTS = 2**20
FORBIDDEN = 1000
"""Added to the count of living values where one of them cannot be handed over: its type is not known."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of the main graph.

    Attributes:
        index: its place.
        nodes: in order.
        sites: the Sites among them.
        inputs: graph inputs and values of earlier segments that are read here.
        outputs: values made here that a later segment reads.
        last_read: values of this or earlier segments that no later segment reads.
    """

    index: int
    nodes: tuple[ir.Node, ...]
    sites: tuple[Site, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    last_read: tuple[ir.Value, ...]

    @cached_property
    def made(self) -> Mapping[str, ir.Value]:
        """Values made here by name."""
        return {value.name or "": value for node in self.nodes for value in node.outputs}

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that its nodes read."""
        weights = {v.const_value for node in self.nodes for v in reads(node) if v.const_value is not None}
        return sum(tensor.nbytes for tensor in weights)


class Layout:
    """Where values of a main graph are made and read.

    Args:
        model: the model; only read.
        sizes: of its values.
    """

    def __init__(self, model: ir.Model, sizes: Sizes) -> None:
        self.nodes = _by_first_reader(model.graph)
        self.graph_inputs = set(model.graph.inputs)
        self.sizes = sizes
        self.position = {node: at for at, node in enumerate(self.nodes)}
        self.made = {v: at for at, node in enumerate(self.nodes) for v in node.outputs}
        self.last: dict[ir.Value, int] = {}
        for at, node in enumerate(self.nodes):
            self.last.update(dict.fromkeys(reads(node), at))

    def cuts(self, sites: Sequence[Site]) -> list[int]:
        """Positions of first nodes of segments: the best place between two Sites, where that is a minimum."""
        count, elements = self._alive()
        positions = sorted({self.position[site.node] for site in sites})
        best = []
        for one, two in pairwise(positions):
            span = range(one + 1, two + 1)
            best.append(min(span, key=lambda at: (count[at], elements[at], -at)))
        # Before the first Site and behind the last one nothing is cut, but a cut that costs more than there
        # would be one in the middle of something.
        before = count[1 : positions[0] + 1] if positions else ()
        behind = count[positions[-1] + 1 : len(self.nodes)] if positions else ()
        ends = [min((int(n) for n in part), default=FORBIDDEN) for part in (before, behind)]
        costs = [ends[0], *(int(count[at]) for at in best), ends[1]]
        local = [
            at
            for at, left, cost, right in zip(best, costs, costs[1:], costs[2:], strict=False)
            if cost < FORBIDDEN and cost <= min(left, right)
        ]
        return [0, *local]

    def segments(
        self, cuts: Sequence[int], sites: Sequence[Site], late: Mapping[ir.Value, int] | None = None
    ) -> tuple[Segment, ...]:
        """The segments that begin at these positions; `late` keeps values alive up to a position."""
        last = dict(self.last)
        for value, at in (late or {}).items():
            last[value] = max(at, last.get(value, -1))
        bounds = [*cuts, len(self.nodes)]
        return tuple(
            self._segment(number, start, end, sites, last)
            for number, (start, end) in enumerate(pairwise(bounds))
        )

    def _segment(
        self, number: int, start: int, end: int, sites: Sequence[Site], last: Mapping[ir.Value, int]
    ) -> Segment:
        nodes = self.nodes[start:end]
        read = dict.fromkeys(v for node in nodes for v in reads(node))
        late = (v for v, at in last.items() if start <= at < end)
        inputs = [v for v in dict.fromkeys((*read, *late)) if self._enters(v, start)]
        outputs = [v for node in nodes for v in node.outputs if last.get(v, -1) >= end]
        gone = [v for v, at in last.items() if at < end and self.made.get(v, end) < end]
        mine = tuple(site for site in sites if start <= self.position[site.node] < end)
        return Segment(number, nodes, mine, tuple(inputs), tuple(outputs), tuple(gone))

    def _enters(self, value: ir.Value, start: int) -> bool:
        return value in self.graph_inputs or self.made.get(value, start) < start

    def _alive(self) -> tuple[np.ndarray, np.ndarray]:
        """Per position, number and elements of the values made before it and read from it on."""
        count = np.zeros(len(self.nodes) + 2, np.int64)
        elements = np.zeros(len(self.nodes) + 2)
        for value, last in self.last.items():
            made = self.made.get(value)
            if made is None or last <= made:
                continue
            weight = _weight(value)
            size = self._elements(value)
            count[made + 1] += weight
            count[last + 1] -= weight
            elements[made + 1] += size
            elements[last + 1] -= size
        return np.cumsum(count), np.cumsum(elements)

    def _elements(self, value: ir.Value) -> int:
        shape = self.sizes.shapes.get(value)
        return UNKNOWN_ELEMENTS if shape is None else prod(a for a, _ in shape)


def _by_first_reader(graph: ir.Graph) -> tuple[ir.Node, ...]:
    """The nodes in their order, but what is computed from weights alone right before its first reader.

    Else a segment far behind would read what it made of weights that have been replaced since.
    """
    nodes = tuple(graph)
    varying = set(graph.inputs)
    for node in nodes:
        if not varying.isdisjoint(reads(node)):
            varying.update(node.outputs)
    first: dict[ir.Value, int] = {}
    place: dict[ir.Node, tuple[int, int]] = {}
    for at in range(len(nodes) - 1, -1, -1):
        node = nodes[at]
        mine = min((first[v] for v in node.outputs if v in first and v not in varying), default=at)
        place[node] = mine, at
        first.update({v: min(mine, first.get(v, mine)) for v in reads(node)})
    return tuple(sorted(nodes, key=place.__getitem__))


def _weight(value: ir.Value) -> int:
    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED):
        return FORBIDDEN
    # Sizes and positions that are passed along are small, and no data flows through them.
    return 1 if value.dtype.is_floating_point() else 0


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Values that a node reads, those that its subgraphs take from outside included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            inner = set(graph.inputs) | set(graph.initializers.values())
            for nested in graph:
                yield from (value for value in reads(nested) if value not in inner)
                inner |= set(nested.outputs)
            yield from (value for value in graph.outputs if value not in inner)


def _graphs(attribute: ir.Attr) -> Iterable[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()
