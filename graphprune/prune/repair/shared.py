"""Layers that are applied more than once: their readers stand side by side, and are repaired once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
import onnx_ir as ir

from graphprune.ir.clone import copy_model
from graphprune.ir.shapes import infer
from graphprune.ops import record_of
from graphprune.prune.repair.observe import Part
from graphprune.prune.repair.remains import Remains
from graphprune.prune.repair.samples import Samples
from graphprune.prune.repair.solve import Moments, Seen, dense_moments
from graphprune.prune.repair.stage import Stage
from graphprune.statistics.measures import Rows, Second
from graphprune.statistics.segments import reads

Bundle = Sequence[ir.Node]
"""Nodes that read one weight, in the order of the graph."""


@dataclass(frozen=True)
class _Order:
    """Nodes in an order that keeps these bundles together."""

    nodes: list[ir.Node]
    bundles: list[Bundle]


def beside(stage: Stage, bundles: Sequence[Bundle]) -> Stage:
    """A stage whose bundles are not parted, so that all rows of a layer are there when it is repaired.

    The order of the graph stays where it is one already. A layer that reads what it made itself, as in a
    recurrence, stays apart: `Stage.whole` does not name it.
    """
    order = _order(list(stage.model.graph), bundles)
    names = [tuple(node.outputs[0].name or "" for node in bundle) for bundle in order.bundles]
    if order.nodes == list(stage.model.graph):
        return replace(stage, whole=tuple(names))
    copy = copy_model(stage.model)
    moved = [copy.nodes[node] for node in order.nodes]
    copy.model.graph.remove(moved)
    copy.model.graph.extend(moved)
    return replace(stage, model=copy.model, sizes=infer(copy.model, record_of), whole=tuple(names))


def _order(nodes: list[ir.Node], bundles: Sequence[Bundle]) -> _Order:
    chosen = list(bundles)
    links = _links(nodes, chosen)
    if not nx.is_directed_acyclic_graph(links):
        chosen = []
        for bundle in bundles:
            if nx.is_directed_acyclic_graph(_links(nodes, [*chosen, bundle])):
                chosen.append(bundle)
        links = _links(nodes, chosen)
    members: dict[int, list[ir.Node]] = {}
    for node, first in _firsts(nodes, chosen).items():
        members.setdefault(first, []).append(node)
    order = nx.lexicographical_topological_sort(links)
    return _Order([node for first in order for node in members[first]], chosen)


def _links(nodes: list[ir.Node], bundles: Sequence[Bundle]) -> nx.DiGraph[int]:
    """What must come before what, each bundle as one."""
    firsts = _firsts(nodes, bundles)
    links: nx.DiGraph[int] = nx.DiGraph()
    links.add_nodes_from(firsts.values())
    for node in nodes:
        producers = (value.producer() for value in reads(node))
        links.add_edges_from((firsts[p], firsts[node]) for p in producers if p is not None and p in firsts)
    return links


def _firsts(nodes: list[ir.Node], bundles: Sequence[Bundle]) -> dict[ir.Node, int]:
    """Position of every node; of the first node of its bundle, where it is in one."""
    firsts = {node: at for at, node in enumerate(nodes)}
    for bundle in bundles:
        firsts.update(dict.fromkeys(bundle, min(firsts[node] for node in bundle)))
    return firsts


def undisturbed(left: Remains, second: Second) -> Seen:
    """What the kept columns see in the dense model, where the whole weight is the target."""
    part = Part.of(left)
    weight = left.weight[:, part.rows]
    if isinstance(second, Rows):
        given = np.matmul(second.rows, weight.transpose(0, 2, 1))
        return Samples(second.rows[:, :, part.columns], given)
    whole = dense_moments(weight.astype(np.float64), second.scatter, second.sum, second.count)
    inner = whole.xx[:, part.columns[:, None], part.columns]
    return Moments(
        whole.count, whole.x[:, part.columns], whole.y, inner, whole.yx[:, :, part.columns], whole.yy
    )
