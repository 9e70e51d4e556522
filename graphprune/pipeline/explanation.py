"""Why slots are coupled and why a group is pinned: paths through the part of the graph a group touches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.names import quote
from graphprune.pipeline.opened import open_model
from graphprune.pipeline.samples import Given
from graphprune.pipeline.settings import Looking
from graphprune.shown import Shown

if TYPE_CHECKING:
    import networkx

    from graphprune.axes import Analysis, Group, Options, Slice
    from graphprune.labels.algebra import Label

Vertex = ir.Value | tuple[ir.Node, str]
"""A value, or one end of a node: "in" or "out" where it does not pass slots on, "" where it does."""


@dataclass(frozen=True)
class SliceLine:
    """One axis of one initializer that a group owns slots of."""

    initializer: str
    axis: int
    role: str
    node: str
    operator: str
    slots: int


@dataclass(frozen=True)
class Step:
    """One hop of a path: a node, the value that leads on to the next, and its axes that the group owns."""

    node: str
    operator: str
    value: str
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Explanation(Shown):
    """A group, why it is pinned (or not), what it owns, and the path that was asked about."""

    group: str
    width: int
    pin: str
    pin_node: str
    unblock: str
    slices: tuple[SliceLine, ...]
    path: tuple[Step, ...]
    note: str = ""


@dataclass(frozen=True)
class Explained(Shown):
    """Every group that was asked about."""

    groups: tuple[Explanation, ...]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> Explanation:
        return self.groups[number]


def explain(
    model: object,
    first: str,
    second: str | None,
    settings: Looking,
    options: Options | None = None,
    inputs: Given = None,
) -> Explained:
    """Every group that a name belongs to, or the groups that couple two names.

    Args:
        model: the model to look at.
        first: a group id, an initializer (`name` or `name:axis`) or a node, or a glob of these.
        second: another one; None asks about the first alone.
        settings: limits of the model file, fixed inputs and shapes.
        options: what the analysis may assume.
        inputs: samples, for their shapes.

    Raises:
        ArgumentError: nothing has that name.
        ModelError: the model is malformed or unsafe.
    """
    from graphprune.axes import analyse

    opened = open_model(model, settings, inputs, lift=True)
    analysis = analyse(opened.model, options, opened.sizes)
    groups = _matching(analysis, first)
    if second is None:
        return Explained(tuple(_alone(analysis, group, first) for group in groups))
    others = {group.id for group in _matching(analysis, second)}
    shared = [group for group in groups if group.id in others]
    if not shared:
        return Explained((_apart(groups[0], first, second),))
    return Explained(tuple(_coupled(analysis, group, first, second) for group in shared))


def _matching(analysis: Analysis, pattern: str) -> list[Group]:
    """Groups with that id, initializer or node; an id wins over a glob, for ids may hold its characters."""
    exact = [group for group in analysis.groups if group.id == pattern]
    found = exact or [
        group for group in analysis.groups if any(_means(pattern, each) for each in group.slices)
    ]
    if found:
        return found
    known = {name for group in analysis.groups for each in group.slices for name in _names(each)}
    hint = did_you_mean(pattern, known)
    hint = hint if hint.startswith("did you mean") else "`graphprune inspect` lists the groups"
    raise ArgumentError(f"no group, initializer or node with slots is named {quote(pattern)}", hint)


def _names(each: Slice) -> tuple[str, ...]:
    return (f"{each.initializer}:{each.axis}", each.initializer, each.node)


def _means(pattern: str, each: Slice) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in _names(each))


def _alone(analysis: Analysis, group: Group, name: str) -> Explanation:
    if group.pin is None:
        return _explanation(group, ())
    touched = _Touched(analysis, group)
    return _explanation(group, touched.path(touched.ends(name), touched.called(group.pin.node)))


def _coupled(analysis: Analysis, group: Group, first: str, second: str) -> Explanation:
    touched = _Touched(analysis, group)
    return _explanation(group, touched.path(touched.ends(first), touched.ends(second)))


def _apart(group: Group, first: str, second: str) -> Explanation:
    note = f"{quote(first)} and {quote(second)} share no group: their slots are removed independently"
    return _explanation(group, (), note)


def _explanation(group: Group, path: tuple[Step, ...], note: str = "") -> Explanation:
    pin = group.pin
    return Explanation(
        group=group.id,
        width=group.size,
        pin=pin.reason if pin else "",
        pin_node=pin.node if pin else "",
        unblock=pin.unblock if pin else "",
        slices=tuple(
            SliceLine(s.initializer, s.axis, s.role, s.node, s.use.node.op_type, len(np.unique(s.pairs[1])))
            for s in group.slices
        ),
        path=path,
        note=note,
    )


class _Touched:
    """The nodes and values that carry slots of a group, connected where the slots pass from one to the other.

    A node that both makes and reads the group's slots, like the second convolution of a residual block, does
    not pass them on: it has two ends here, which only a way around it connects.
    """

    def __init__(self, analysis: Analysis, group: Group) -> None:
        import networkx

        self.group = group
        roles: dict[ir.Node, set[str]] = {}
        for each in group.slices:
            roles.setdefault(each.use.node, set()).add("in" if each.role == "sink" else "out")
        self.split = {node for node, sides in roles.items() if len(sides) > 1}
        self.graph: networkx.Graph[Vertex] = networkx.Graph()
        atoms = set(group.atoms.tolist())
        for value, labels in analysis.values.items():
            axes = tuple(axis for axis, label in enumerate(labels) if _owns(analysis, atoms, label))
            if axes:
                self._connect(value, axes)

    def _connect(self, value: ir.Value, axes: tuple[int, ...]) -> None:
        maker = value.producer()
        if maker is not None:
            self.graph.add_edge(self._vertex(maker, "out"), value, axes=axes)
        for user, _ in value.uses():
            self.graph.add_edge(self._vertex(user, "in"), value, axes=axes)

    def _vertex(self, node: ir.Node, side: str) -> Vertex:
        return (node, side) if node in self.split else (node, "")

    def ends(self, pattern: str) -> list[Vertex]:
        """Where the slices that a name means sit in the graph."""
        chosen = [each for each in self.group.slices if _means(pattern, each)] or self.group.slices[:1]
        sides = ((each.use.node, "in" if each.role == "sink" else "out") for each in chosen)
        ends = [self._vertex(node, side) for node, side in sides]
        return [end for end in dict.fromkeys(ends) if end in self.graph]

    def called(self, name: str) -> list[Vertex]:
        """Nodes, or graph inputs and outputs, with that name."""
        return [vertex for vertex in self.graph if name in _labels(vertex)]

    def path(self, starts: list[Vertex], goals: list[Vertex]) -> tuple[Step, ...]:
        """The shortest way from the first start to a goal, node by node."""
        import networkx

        if not starts:
            return ()
        reached = networkx.single_source_shortest_path(self.graph, starts[0])
        found = [reached[goal] for goal in goals if goal in reached and goal != starts[0]]
        return tuple(self._steps(min(found, key=len, default=[])))

    def _steps(self, path: list[Vertex]) -> Iterator[Step]:
        for at in range(0, len(path), 2):
            vertex = path[at]
            assert isinstance(vertex, tuple)
            value = path[at + 1] if at + 1 < len(path) else None
            axes = self.graph.edges[vertex, value]["axes"] if value is not None else ()
            name = value.name or "" if isinstance(value, ir.Value) else ""
            yield Step(vertex[0].name or "", vertex[0].op_type, name, axes)


def _labels(vertex: Vertex) -> tuple[str | None, ...]:
    return (vertex.name,) if isinstance(vertex, ir.Value) else (vertex[0].name or vertex[0].op_type,)


def _owns(analysis: Analysis, atoms: set[int], label: Label) -> bool:
    state = analysis.state
    for factor in state.algebra.normal(label):
        if factor.atoms is not None and not atoms.isdisjoint(state.atoms.base(factor.atoms)[1].tolist()):
            return True
    return False
