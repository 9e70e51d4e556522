"""What a cut leaves of every Site: kept columns and rows, and whether repair may change its weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.axes.kept import Cuts, Kept
from graphprune.axes.sublayers import Sublayer, gone_with
from graphprune.experts.mixtures import find_mixtures
from graphprune.ir.arrays import Array, Bools, Floats, Singles
from graphprune.ir.graphs import nodes_in
from graphprune.labels.edits import BranchRemoval
from graphprune.prune.bias import bias_of, place_of
from graphprune.statistics.segments import reads
from graphprune.statistics.sites import Site

UNKNOWN = (0, -1)
"""The size of an axis of a value whose shape is not known."""


@dataclass(frozen=True)
class Change:
    """What a pass does to a model before repair.

    Attributes:
        cuts: kept Units per Group id.
        bypassed: sublayers that go.
        base: weights that the pass itself replaced; they are used, and stay as they are.
    """

    cuts: Cuts
    bypassed: tuple[Sublayer, ...] = ()
    base: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Remains:
    """A Site as a cut leaves it, with a column and a row at least: no Group goes as a whole.

    Attributes:
        site: of the dense model.
        keep: columns of W that stay, [blocks, columns].
        rows: rows of W that stay, [blocks, rows].
        why: why its weight stays as it is; empty if it may change.
        biased: whether a bias may be added to its result.
        readers: the Sites that read its weight and are repaired with it, itself included.
    """

    site: Site
    keep: Bools
    rows: Bools
    why: str
    biased: bool
    readers: tuple[Site, ...]

    @property
    def cut(self) -> bool:
        """Whether columns are gone."""
        return not self.keep.all()

    def solvable(self, how: frozenset[str]) -> bool:
        """Whether its weight may change, and is to change."""
        return not self.why and how != {"bias"}

    @property
    def weight(self) -> Floats:
        """The dense W, [blocks, rows, columns], at least in single precision."""
        return self.site.dense

    @property
    def own_bias(self) -> Singles:
        """What the node itself adds to W x: the bias input of a Conv or Gemm."""
        site, scale = self.site, np.float32(self.site.bias_scale)
        if site.hidden:
            return np.zeros(1, np.float32)
        if site.held is not None:
            return np.asarray(site.held.read(), np.float32).reshape(-1) * scale
        position = bias_of(site.node)
        given = position is not None and position < len(site.node.inputs)
        value = site.node.inputs[position] if position is not None and given else None
        if value is None or value.const_value is None:
            return np.zeros(1, np.float32)
        return np.asarray(value.const_value.numpy(), np.float32).reshape(-1) * scale


def remains(
    analysis: Analysis, change: Change, sites: Sequence[Site], fresh: bool = True
) -> dict[ir.Node, Remains]:
    """The Sites that a change concerns: those that lose columns, and those that read what it changed.

    Args:
        analysis: of the dense model.
        change: what goes.
        sites: of the dense model.
        fresh: whether a Site that loses nothing itself may get a bias input that it does not have.
    """
    groups, changed = cut_groups(analysis, change.cuts), changed_nodes(analysis, change)
    gone, routed = removed_nodes(analysis, change), _routed(analysis)
    here = [site for site in sites if site.node not in gone and site.weight.name not in change.base]
    masks = {site: _masks(site, groups, change.cuts) for site in here}
    concerned = {s for s in here if s.edge.producer() in changed or not masks[s][0].all()}
    found = {}
    for readers in _by_weight(here):
        if concerned.isdisjoint(readers):
            continue
        for mine in _together(readers, masks, concerned):
            for each in _left(mine, masks, routed, fresh):
                found[each.site.node] = each
    return found


def _by_weight(sites: Sequence[Site]) -> list[list[Site]]:
    found: dict[ir.Value, list[Site]] = {}
    for site in sites:
        found.setdefault(site.weight, []).append(site)
    return list(found.values())


def _together(
    readers: Sequence[Site], masks: Mapping[Site, tuple[Bools, Bools]], concerned: set[Site]
) -> list[tuple[Site, ...]]:
    """All readers of a weight, where they keep the same part of it and nothing else reads it."""
    first = masks[readers[0]]
    same = all(np.array_equal(a, b) for site in readers for a, b in zip(masks[site], first, strict=True))
    if same and readers[0].stored.readers == len(readers):
        return [tuple(readers)]
    return [(site,) for site in readers if site in concerned]


def _left(
    readers: tuple[Site, ...],
    masks: Mapping[Site, tuple[Bools, Bools]],
    routed: set[ir.Node],
    fresh: bool,
) -> Iterator[Remains]:
    """What one decision for all readers of a weight leaves of each."""
    whys = [_fixed(site, len(readers)) for site in readers]
    biased = _is_own(readers) and all(_biased(site, masks[site][0], fresh) for site in readers)
    if not routed.isdisjoint(site.node for site in readers):
        whys, biased = ["its rows are the tokens of one expert, and may be others now"], False
    why = next(filter(None, whys), "")
    return (Remains(site, *masks[site], why, biased, readers) for site in readers)


def _is_own(readers: Sequence[Site]) -> bool:
    """Whether nothing else reads the biases of these Sites: repair changes a tensor, it never clones one."""
    found = [(_bias_of(site), site.held) for site in readers]
    values = [value for value, _ in found]
    return all(
        value is None or (len(value.uses()) if held is None else held.readers) == values.count(value)
        for value, held in found
    )


def _bias_of(site: Site) -> ir.Value | None:
    if site.hidden or site.held is not None:
        return site.bias if site.held is None else site.held.value
    place = place_of(site.node)
    return place[0].inputs[place[1]] if place is not None and len(place[0].inputs) > place[1] else None


def _biased(site: Site, keep: Bools, fresh: bool) -> bool:
    """A new Add is one more node to run: only where it makes up for inputs that are gone."""
    own = _bias_of(site) is not None
    if site.hidden or site.stored.grid is not None:
        return own  # between QuantizeLinear and DequantizeLinear, an Add would part what is one kernel
    place = place_of(site.node) if fresh or own else None
    return place is not None or not keep.all()


def _routed(analysis: Analysis) -> set[ir.Node]:
    """Nodes of experts that see only their own tokens: behind a change, these may be others."""
    found: set[ir.Node] = set()
    for item in find_mixtures(analysis).found:
        sizes = {size for value in (item.scores, item.result) for size in _shape(analysis, value)}
        found |= {node for node in item.region if _sizes_of(analysis, node) - sizes}
    return found


def _sizes_of(analysis: Analysis, node: ir.Node) -> set[tuple[int, int]]:
    """Sizes of its results that are not fixed."""
    return {size for value in node.outputs for size in _shape(analysis, value) if size[0] != size[1]}


def _shape(analysis: Analysis, value: ir.Value) -> Sequence[tuple[int, int]]:
    return analysis.sizes.shapes.get(value) or [UNKNOWN]


def removed_nodes(analysis: Analysis, change: Change) -> set[ir.Node]:
    """Nodes that go as a whole: with an expert, or with a sublayer."""
    kept = Kept(analysis, change.cuts)
    edits = (edit for edit in analysis.edits if isinstance(edit, BranchRemoval))
    experts = {node for edit in edits if kept.count(edit.label) == 0 for node in edit.branch.nodes}
    return experts | gone_with(change.bypassed)


def beyond(analysis: Analysis, change: Change, sites: Sequence[Site]) -> list[ir.Node]:
    """Nodes that contract what a cut shortened but are no Site, such as Einsum or whatever If contains."""
    able = {site.use for site in sites}
    gone = removed_nodes(analysis, change)
    sinks = (
        each for group in cut_groups(analysis, change.cuts) for each in group.slices if each.role == "sink"
    )
    nodes = (each.use.node for each in sinks if each.use not in able)
    return list(dict.fromkeys(node for node in nodes if node not in gone))


def _fixed(site: Site, readers: int) -> str:
    if site.stored.readers > readers:
        return "its weight has other readers"
    if not site.stored.writable:
        return "new numbers cannot be put back the way that its weight is stored"
    if site.row_span > 1:
        return "windows of a transposed convolution overlap"
    bias = bias_of(site.node) if site.layer.either else None
    given = bias is not None and bias < len(site.node.inputs) and site.node.inputs[bias] is not None
    if given and site.bias is None and site.held is None:
        return "what it adds is no constant vector"
    return ""


def _masks(site: Site, groups: Sequence[Group], cuts: Cuts) -> tuple[Bools, Bools]:
    keep, rows = np.ones(site.blocks * site.columns, bool), np.ones(site.outputs * site.row_span, bool)
    for group in groups:
        gone = np.delete(np.arange(group.size), list(cuts[group.id]))
        for touched in group.slices:
            if site.owns(touched):
                sink = touched.role == "sink"
                units, slots = site.columns_of(touched) if sink else site.rows_of(touched)
                (keep if sink else rows)[slots[np.isin(units, gone)]] = False
    return keep.reshape(site.blocks, -1), rows.reshape(site.blocks, -1)


def changed_nodes(analysis: Analysis, change: Change) -> set[ir.Node | None]:
    """Nodes of the main graph that hold a cut slice or lose an operand, and all computed from them."""
    holders = {touched.use.node for group in cut_groups(analysis, change.cuts) for touched in group.slices}
    holders |= {item.join for item in change.bypassed}
    graph = analysis.model.graph
    holders |= {user for name in change.base for user, _ in graph.initializers[name].uses()}
    values: set[ir.Value] = set()
    found: set[ir.Node | None] = set()
    for node in graph:
        if not holders.isdisjoint(_within(node)) or not values.isdisjoint(reads(node)):
            found.add(node)
            values.update(node.outputs)
    return found


def _within(node: ir.Node) -> Iterator[ir.Node]:
    yield node
    yield from nodes_in(node)


def cut_groups(analysis: Analysis, cuts: Cuts) -> list[Group]:
    """Groups that lose Units."""
    return [group for group in analysis.groups if len(cuts.get(group.id, range(group.size))) < group.size]
