"""What a cut leaves of every Site: kept columns and rows, and whether repair may change its weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.prune.bias import place_of
from graphprune.statistics.segments import reads
from graphprune.statistics.sites import GRAM_COLUMNS, Site

Mask = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
Cuts = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Remains:
    """A Site as a cut leaves it.

    Attributes:
        site: of the dense model.
        keep: columns of W that stay, [blocks, columns].
        rows: rows of W that stay, [blocks, rows].
        why: why its weight stays as it is; empty if it may change.
        biased: whether a bias may be added to its result.
    """

    site: Site
    keep: Mask
    rows: Mask
    why: str
    biased: bool

    @property
    def cut(self) -> bool:
        """Whether columns are gone."""
        return not self.keep.all()

    @property
    def empty(self) -> bool:
        """Whether no column or no row is left."""
        return not (self.keep.any() and self.rows.any())

    def solvable(self, how: frozenset[str]) -> bool:
        """Whether its weight may change, and is to change."""
        return not self.why and how != {"bias"}

    @property
    def weight(self) -> Doubles:
        """The dense W, [blocks, rows, columns]."""
        tensor = self.site.weight.const_value
        assert tensor is not None
        return np.asarray(self.site.matrix(np.asarray(tensor.numpy())), np.float64)

    @property
    def own_bias(self) -> npt.NDArray[np.float32]:
        """What the node itself adds to W x: the bias input of a Conv or Gemm."""
        node = self.site.node
        value = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
        if value is None or value.const_value is None:
            return np.zeros(1, np.float32)
        scale = np.float32(self.site.bias_scale)
        return np.asarray(value.const_value.numpy(), np.float32).reshape(-1) * scale


def remains(analysis: Analysis, cuts: Cuts, sites: Sequence[Site]) -> dict[ir.Node, Remains]:
    """The Sites that a cut concerns: those that lose columns, and those that read what it changed."""
    groups, changed = _cut_groups(analysis, cuts), changed_nodes(analysis, cuts)
    found = {}
    for site in sites:
        keep, rows = _masks(site, groups, cuts)
        if site.edge.producer() in changed or not keep.all():
            # A new Add is one more node to run: only where it makes up for inputs that are gone.
            biased = place_of(site.node) is not None or not keep.all()
            found[site.node] = Remains(site, keep, rows, _fixed(site, keep), biased)
    return found


def beyond(analysis: Analysis, cuts: Cuts, sites: Sequence[Site]) -> list[ir.Node]:
    """Nodes that contract what a cut shortened but are no Site, such as LSTM or whatever If contains."""
    able = {site.node for site in sites}
    touched = [slice_ for group in _cut_groups(analysis, cuts) for slice_ in group.slices]
    nodes = (slice_.use.node for slice_ in touched if slice_.role == "sink")
    return list(dict.fromkeys(node for node in nodes if node is not None and node not in able))


def too_wide(columns: int) -> str:
    """Why so many columns are not solved for; empty if they are."""
    return f"{columns} columns are too many to solve for" if columns > GRAM_COLUMNS else ""


def _fixed(site: Site, keep: Mask) -> str:
    if len(site.weight.uses()) > 1:
        return "its weight has other readers"
    if site.row_span > 1:
        return "windows of a transposed convolution overlap"
    node, third = site.node, site.node.inputs[2] if len(site.node.inputs) > 2 else None
    if node.op_type == "Gemm" and third is not None and site.bias is None:
        return "what it adds is no constant vector"
    return too_wide(int(keep.sum(axis=1).max()))


def _masks(site: Site, groups: Sequence[Group], cuts: Cuts) -> tuple[Mask, Mask]:
    keep, rows = np.ones(site.blocks * site.columns, bool), np.ones(site.outputs * site.row_span, bool)
    for group in groups:
        gone = np.delete(np.arange(group.size), list(cuts[group.id]))
        for touched in group.slices:
            if site.owns(touched):
                sink = touched.role == "sink"
                units, slots = site.columns_of(touched) if sink else site.rows_of(touched)
                (keep if sink else rows)[slots[np.isin(units, gone)]] = False
    return keep.reshape(site.blocks, -1), rows.reshape(site.blocks, -1)


def changed_nodes(analysis: Analysis, cuts: Cuts) -> set[ir.Node | None]:
    """Nodes of the main graph that hold a cut slice, and everything computed from their results."""
    holders = {touched.use.node for group in _cut_groups(analysis, cuts) for touched in group.slices}
    values: set[ir.Value] = set()
    found: set[ir.Node | None] = set()
    for node in analysis.model.graph:
        if not holders.isdisjoint(_within(node)) or not values.isdisjoint(reads(node)):
            found.add(node)
            values.update(node.outputs)
    return found


def _within(node: ir.Node) -> Iterator[ir.Node]:
    yield node
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())


def _cut_groups(analysis: Analysis, cuts: Cuts) -> list[Group]:
    return [group for group in analysis.groups if len(cuts.get(group.id, range(group.size))) < group.size]
