"""What criteria read: the Sites where a Group is consumed or made, their weights and their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group, Slice
from graphprune.ir.arrays import Doubles, Floats, Ids
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.statistics.measures import Second, Statistics, Vector, added, summed
from graphprune.statistics.sites import Site, find_sites

SETTLING = (Trait.ACTIVATION, Trait.CHANNEL_NORM, Trait.SUM, Trait.COPY, Trait.DROPOUT)
"""What is between a source and the value that is read further on."""
JOINING = (Trait.SUM, Trait.COPY, Trait.DROPOUT, Trait.CAST)


@dataclass(frozen=True, eq=False)
class Sink:
    """One weight that reads a Group.

    Attributes:
        site: the first Site that multiplies with it.
        units, columns: parallel arrays; unit units[k] owns column columns[k], counted over all blocks.
        readers: all Sites that multiply with it and read the same columns: a layer that is applied twice.
    """

    site: Site
    units: Ids
    columns: Ids
    readers: tuple[Site, ...]

    def second(self, statistics: Statistics) -> Second:
        """Second moments of what all readers read."""
        return reduce(summed, [statistics.gram(site.name) for site in self.readers])

    def vector(self, statistics: Statistics) -> Vector:
        """Sums of what all readers read."""
        return reduce(added, [statistics.vector(site.edge.name or "") for site in self.readers])

    @property
    def channels(self) -> Ids:
        """Channel of the edge that each column reads."""
        return self.columns // self.site.column_span

    def matrix(self) -> Floats:
        """W as [blocks, rows, columns], at least in single precision."""
        return self.site.dense

    def per_column(self, values: Doubles) -> Doubles:
        """A value per channel of the edge, for each of `columns`."""
        return np.asarray(values[self.channels])

    def column_sums(self, power: int) -> Doubles:
        """Sum of |W|^power over the rows, for each of `columns`."""
        change = np.abs if power == 1 else np.square
        blocks = [change(block).sum(axis=0, dtype=np.float64) for block in self.matrix()]
        return np.asarray(np.concatenate(blocks)[self.columns])

    def by_block(self) -> Iterator[tuple[int, Ids, Ids]]:
        """(block, units, columns within the block)."""
        width = self.site.columns
        for block in range(self.site.blocks):
            mine = self.columns // width == block
            if mine.any():
                yield block, self.units[mine], self.columns[mine] - block * width


@dataclass(frozen=True, eq=False)
class Output:
    """A value that carries a Group.

    Attributes:
        value, axis: the value and its channel axis.
        units, channels: parallel arrays; unit units[k] owns channel channels[k].
    """

    value: ir.Value
    axis: int
    units: Ids
    channels: Ids

    @property
    def name(self) -> str:
        """Name of the value."""
        return self.value.name or ""

    def per_unit(self, size: int, values: Doubles) -> Doubles:
        """Mean over the channels that each of `size` Units owns."""
        total = np.bincount(self.units, weights=values[self.channels], minlength=size)
        return np.asarray(total / np.maximum(np.bincount(self.units, minlength=size), 1))


class SiteIndex:
    """Where the Groups of a model meet its Sites.

    Args:
        analysis: the analysed model.
    """

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    @cached_property
    def _by_node(self) -> dict[ir.Node, list[Site]]:
        found: dict[ir.Node, list[Site]] = {}
        for site in find_sites(self.analysis.model, self.analysis.sizes):
            found.setdefault(site.use.node, []).append(site)
        return found

    def site(self, touched: Slice) -> Site | None:
        """The Site whose weight a Slice is about."""
        return next((s for s in self._by_node.get(touched.use.node, ()) if s.owns(touched)), None)

    def sinks(self, group: Group) -> list[Sink]:
        """The Sites that read a Group."""
        found: dict[Site, list[tuple[Ids, Ids]]] = {}
        for touched in group.slices:
            site = self.site(touched) if touched.role == "sink" else None
            if site is not None:
                found.setdefault(site, []).append(site.columns_of(touched))
        sinks: dict[tuple[object, ...], Sink] = {}
        for site, pairs in found.items():
            units, columns = (np.concatenate(each) for each in zip(*pairs, strict=True))
            key = (site.weight, site.in_axis, site.position, units.tobytes(), columns.tobytes())
            if key in sinks:
                sinks[key] = replace(sinks[key], readers=(*sinks[key].readers, site))
            else:
                sinks[key] = Sink(site, units, columns, (site,))
        return list(sinks.values())

    def outputs(self, group: Group) -> list[Output]:
        """What the sources of a Group compute."""
        found: dict[ir.Value, Output] = {}
        for touched in group.sources:
            site = self.site(touched)
            if site is not None and not site.hidden:
                units, rows = site.rows_of(touched)
                found[site.output] = Output(site.output, site.out_axis, units, rows // site.row_span)
        return list(found.values())

    def activations(self, group: Group) -> list[Output]:
        """The same, behind the activations that follow: what the rest of the network reads."""
        found = {settled(each.value): each for each in self.outputs(group)}
        return [replace(each, value=value) for value, each in found.items()]


def joined(value: ir.Value) -> ir.Value:
    """Where a result has joined what it is added to: a bias, and the residual stream."""
    return _behind(value, JOINING)


def settled(value: ir.Value) -> ir.Value:
    """A value behind the activations that follow it, as long as each is read by one node."""
    return _behind(value, SETTLING)


def _behind(value: ir.Value, passing: Sequence[Trait]) -> ir.Value:
    while True:
        readers = list(dict.fromkeys(node for node, _ in value.uses()))
        if len(readers) != 1 or not has(readers[0], *passing) or value.is_graph_output():
            return value
        value = readers[0].outputs[0]
