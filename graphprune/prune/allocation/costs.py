"""What a choice of widths costs: layers whose cost is a product, or a table, over the sizes of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphprune.ir.arrays import Doubles, Ids

ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Axis:
    """The size of one axis.

    Attributes:
        fixed: slots that no Group removes.
        parts: slots that a Group adds at each of its options, by number of the Group.
    """

    fixed: float
    parts: Mapping[int, Doubles] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Table:
    """Measured costs at some sizes of each axis; a size between two of them costs what the next one does.

    Attributes:
        points: rising sizes of every axis.
        values: the cost at each combination.
    """

    points: tuple[Doubles, ...]
    values: Doubles

    def at(self, sizes: Sequence[Doubles]) -> Doubles:
        """The cost at these sizes of the axes, which are arrays of one length."""
        places = (
            np.minimum(np.searchsorted(points, each - ROUNDING), len(points) - 1)
            for points, each in zip(self.points, sizes, strict=True)
        )
        return np.asarray(self.values[tuple(places)])


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer by one measure.

    Attributes:
        measure: what is counted, such as macs.
        axes: numbers of the axes that its cost depends on.
        scale: cost per product of the sizes of its axes; a factor on the table where it has one.
        table: measured costs.
    """

    measure: str
    axes: tuple[int, ...]
    scale: float = 1.0
    table: Table | None = None


@dataclass(frozen=True, eq=False)
class Costs:
    """All layers of a model.

    Attributes:
        axes: sizes that layers share.
        layers: what costs depend on.
        fixed: what no Group changes, by measure.
    """

    axes: tuple[Axis, ...]
    layers: tuple[Layer, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)

    def total(self, options: Ids, measure: str) -> float:
        """What one choice costs."""
        found = Counter(self, (measure,))
        return float(found.state(options).total[0])


@dataclass(frozen=True, eq=False)
class State:
    """One choice: the options of all Groups, the sizes of all axes, and what is left by each measure."""

    options: Ids
    sizes: Doubles
    total: Doubles


class Counter:
    """Counts choices of widths by some measures.

    Args:
        costs: of the model.
        measures: what to count.
    """

    def __init__(self, costs: Costs, measures: Sequence[str]) -> None:
        self.costs, self.measures = costs, tuple(measures)
        self._layers = [layer for layer in costs.layers if layer.measure in self.measures]
        self._fixed = np.array([costs.fixed.get(measure, 0.0) for measure in measures])
        self._axes: dict[int, list[int]] = {}
        for number, axis in enumerate(costs.axes):
            for group in axis.parts:
                self._axes.setdefault(group, []).append(number)
        self._readers: dict[int, list[int]] = {}
        for number, layer in enumerate(self._layers):
            for place in set(layer.axes):
                self._readers.setdefault(place, []).append(number)
        self._parts: dict[tuple[int, ...], Part] = {}
        self._near: dict[int, tuple[int, ...]] = {}
        self._whole = Part(self, self._layers, ())

    def state(self, options: Ids) -> State:
        """What a choice comes to."""
        sizes = np.array([axis.fixed for axis in self.costs.axes])
        for group, axes in self._axes.items():
            for number in axes:
                sizes[number] += self.costs.axes[number].parts[group][options[group]]
        return State(options, sizes, self._fixed + self._whole.costs({}, State(options, sizes, sizes))[:, 0])

    def moved(self, state: State, moves: Mapping[int, int]) -> State:
        """The state after some Groups took other options."""
        options, sizes = state.options.copy(), state.sizes.copy()
        for group, option in moves.items():
            for number in self._axes.get(group, ()):
                slots = self.costs.axes[number].parts[group]
                sizes[number] += slots[option] - slots[options[group]]
            options[group] = option
        part, after = self.part(tuple(sorted(moves))), State(options, sizes, state.total)
        change = part.costs({}, after) - part.costs({}, state)
        return State(options, sizes, state.total + change[:, 0])

    def near(self, group: int) -> tuple[int, ...]:
        """Groups whose savings a Group's width changes, itself among them."""
        if group not in self._near:
            layers = {layer for axis in self._axes.get(group, ()) for layer in self._readers.get(axis, ())}
            axes = {axis for layer in layers for axis in self._layers[layer].axes}
            self._near[group] = tuple(
                sorted({group, *(each for axis in axes for each in self.costs.axes[axis].parts)})
            )
        return self._near[group]

    def part(self, groups: tuple[int, ...]) -> Part:
        """The layers that depend on some Groups."""
        if groups not in self._parts:
            axes = {axis for group in groups for axis in self._axes.get(group, ())}
            layers = sorted({layer for axis in axes for layer in self._readers.get(axis, ())})
            self._parts[groups] = Part(self, [self._layers[number] for number in layers], groups)
        return self._parts[groups]


class Part:
    """Some layers of a model, counted for many choices at once."""

    def __init__(self, counter: Counter, layers: Sequence[Layer], groups: Sequence[int]) -> None:
        axes = counter.costs.axes
        self._axes = sorted({axis for layer in layers for axis in layer.axes})
        place = {axis: at for at, axis in enumerate(self._axes)}
        self._moved = [
            (at, group, axes[axis].parts[group])
            for axis, at in place.items()
            for group in groups
            if group in axes[axis].parts
        ]
        products = [layer for layer in layers if not layer.table]
        one = len(self._axes)  # a further axis, which is always 1
        most = max((len(layer.axes) for layer in products), default=0)
        ends = [[*(place[axis] for axis in each.axes), *[one] * (most - len(each.axes))] for each in products]
        self._ends = np.array(ends, np.int64).reshape(len(products), most)
        rows = [
            [layer.scale * (layer.measure == measure) for layer in products] for measure in counter.measures
        ]
        self._scales = np.array(rows, float).reshape(len(counter.measures), len(products))
        self._tables = [
            (
                counter.measures.index(each.measure),
                each.scale,
                each.table,
                [place[axis] for axis in each.axes],
            )
            for each in layers
            if each.table
        ]

    def costs(self, tried: Mapping[int, Ids], state: State) -> Doubles:
        """What these layers cost, [measures, choices].

        Args:
            tried: options of the Groups that the layers were asked for by, arrays of one length.
            state: of all Groups; others stay as they are.
        """
        count = len(next(iter(tried.values()))) if tried else 1
        now = np.ones((len(self._axes) + 1, count))
        now[:-1] = state.sizes[self._axes][:, None]
        for at, group, slots in self._moved:
            if group in tried:
                now[at] += slots[tried[group]] - slots[state.options[group]]
        found = self._scales @ now[self._ends].prod(axis=1)
        for measure, scale, table, places in self._tables:
            found[measure] += scale * table.at([now[place] for place in places])
        return np.asarray(found)
