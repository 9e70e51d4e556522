"""Latency after any cut, without making it: costs from a device profile over the widths that nodes follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil, prod

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Doubles, Ids
from graphprune.labels.algebra import Factor
from graphprune.prune.allocation import Layer, Sum, Table, Width
from graphprune.prune.latency.following import Followed, Length
from graphprune.runtime.device import Cost, DeviceProfile
from graphprune.runtime.pieces import Piece

NANOSECONDS = 1e9
ROWS = 128
"""Widths of an axis at which a table holds a cost, at most."""


class LatencyModel:
    """Nanoseconds of one run of what would be left.

    Args:
        analysis: of the dense model.
        nodes: that run, and what they follow.
        profile: what they cost.
        scale: by which measurements and the profile are apart.

    Attributes:
        factors: atoms of every factor that a node follows, by its number.
        layers: costs over what is kept of the factors.
        fixed: nanoseconds that no cut changes.
        unknown: nodes of which the profile knows nothing.
    """

    def __init__(
        self, analysis: Analysis, nodes: Sequence[Followed], profile: DeviceProfile, scale: float = 1.0
    ) -> None:
        self._numbers: dict[int, int] = {}
        self._tables: dict[tuple[str, tuple[int, ...]], tuple[tuple[float, ...], Doubles]] = {}
        self._atoms = analysis.state.atoms
        self.factors: list[Ids] = []
        self.fixed = scale * NANOSECONDS * profile.overhead
        self.unknown = sum(profile.at(node.piece.kind, node.piece.widths) is None for node in nodes)
        layers: list[Layer] = []
        for node, spent in zip(nodes, seconds_each([node.piece for node in nodes], profile), strict=True):
            cost = profile.cost(node.piece)
            if cost is not None and any(node.widths):
                layers.append(self._tabled(node, cost, scale))
            else:
                layers += self._proportional(node, scale * NANOSECONDS * spent)
        self.fixed += sum(layer.scale for layer in layers if not layer.reads)
        self.layers = tuple(layer for layer in layers if layer.reads)

    @cached_property
    def dense(self) -> int:
        """Of the whole model."""
        return self._total(np.array([len(factor) for factor in self.factors], float))

    def left(self, kept: Kept) -> int:
        """Of what a cut leaves."""
        return self._total(np.asarray(kept.counts(*self._classes), float)) if self.factors else self.dense

    def _total(self, counts: Doubles) -> int:
        return round(self.fixed + float(self._sum.at(np.append(counts, 1.0)[:, None])[0, 0]))

    @cached_property
    def _sum(self) -> Sum:
        return Sum(self.layers, ("latency",), range(len(self.factors)))

    @cached_property
    def _classes(self) -> tuple[Ids, Ids]:
        """The classes of all factors' atoms, one factor after another, and where each starts."""
        each = [self._atoms.find(ids) for ids in self.factors]
        return np.concatenate(each), np.cumsum([0, *(len(ids) for ids in each[:-1])])

    def _number(self, factor: Factor) -> int:
        assert factor.atoms is not None
        key = id(factor.atoms)  # `factors` keeps the array alive, so that its id stays its own
        if key not in self._numbers:
            self._numbers[key] = len(self.factors)
            self.factors.append(factor.atoms)
        return self._numbers[key]

    def _width(self, length: Length) -> Width:
        free = tuple(self._number(factor) for factor in length.label if factor.atoms is not None)
        fixed = prod(factor.size[0] for factor in length.label if factor.atoms is None)
        return Width(free, length.each * fixed)

    def _tabled(self, node: Followed, cost: Cost, scale: float) -> Layer:
        """A node whose cost over its widths was measured."""
        steps, values = self._values(node, cost)
        widths = [None if length is None else self._width(length) for length in node.widths]
        still = tuple(0 if width is not None else -1 for width in widths)
        values = values[tuple(slice(None) if at == 0 else at for at in still)]
        table = Table(
            tuple(width for width in widths if width is not None),
            tuple(step for step, width in zip(steps, widths, strict=True) if width is not None),
            values,
        )
        axes, share = self._shares(node.others)
        return Layer("latency", axes, scale * NANOSECONDS * share, table)

    def _values(self, node: Followed, cost: Cost) -> tuple[tuple[float, ...], Doubles]:
        """Costs at whole steps of each width, from none to all; pieces of one kind and size share them."""
        key = node.piece.kind, node.piece.widths
        if key not in self._tables:
            steps = tuple(ceil(width / ROWS) for width in node.piece.widths)
            grid = [
                [max(1, at * step) for at in range(ceil(width / step) + 1)]
                for width, step in zip(node.piece.widths, steps, strict=True)
            ]
            self._tables[key] = tuple(map(float, steps)), cost.over(grid)
        return self._tables[key]

    def _proportional(self, node: Followed, nanoseconds: float) -> Iterable[Layer]:
        """A node that costs as much as it has elements."""
        for part, lengths in node.tensors or ((1.0, (*filter(None, node.widths), *node.others)),):
            axes, share = self._shares(lengths)
            yield Layer("latency", axes, part * nanoseconds * share)

    def _shares(self, lengths: Sequence[Length]) -> tuple[tuple[int, ...], float]:
        """Axes, and what a product of their sizes is multiplied with so that it is 1 for all of them."""
        axes = tuple(axis for length in lengths for axis in self._width(length).axes)
        return axes, 1 / prod(len(self.factors[axis]) for axis in axes)


def seconds_each(found: Sequence[Piece], profile: DeviceProfile) -> list[float]:
    """Of each node; one that the profile does not know counts as the others do per element that they read."""
    told = ((at, profile.at(each.kind, each.widths)) for at, each in enumerate(found))
    known = {at: seconds for at, seconds in told if seconds is not None}
    elements = [sum(prod(given.shape) for given in each.inputs) for each in found]
    rate = sum(known.values()) / max(1, sum(elements[at] for at in known))
    return [known.get(at, rate * count) for at, count in enumerate(elements)]


def translated(layer: Layer, places: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]) -> Layer:
    """A layer over factors as one over the axes whose sizes multiply to each of them.

    Args:
        layer: its axes are numbers of factors.
        places: of the axes of each factor.
        sizes: of these axes, before anything is cut; a factor is as long as each of them.
    """

    def axes(factors: Sequence[int]) -> tuple[int, ...]:
        return tuple(axis for factor in factors for axis in places[factor])

    def share(factors: Sequence[int]) -> float:
        return 1 / prod(size for factor in factors for size in sizes[factor][1:])

    table = layer.table
    if table is not None:
        widths = tuple(Width(axes(each.axes), each.each * share(each.axes)) for each in table.widths)
        table = replace(table, widths=widths)
    return replace(layer, axes=axes(layer.axes), scale=layer.scale * share(layer.axes), table=table)
