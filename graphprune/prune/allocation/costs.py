"""What a choice of widths costs: layers whose cost is a product, or a table, over the sizes of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphprune.ir.arrays import Doubles, Ids

ROUNDING = 1e-6
KEPT = 64
"""Choices of the Groups around one, whose costs are remembered: a search comes back to few of them."""


@dataclass(frozen=True, eq=False)
class Axis:
    """The size of one axis.

    Attributes:
        fixed: slots that no Group removes.
        parts: slots that a Group adds at each of its options, by number of the Group.
    """

    fixed: float
    parts: Mapping[int, Doubles] = field(default_factory=dict)


@dataclass(frozen=True)
class Width:
    """What a table goes by: so many slots per product of the sizes of some axes."""

    axes: tuple[int, ...]
    each: float = 1.0


@dataclass(frozen=True, eq=False)
class Table:
    """Measured costs at whole steps of one width or two; one between two of them costs what the next does.

    Attributes:
        widths: what its rows go by, and its columns if it has any.
        steps: how far rows, and columns, are apart.
        values: the cost at each; the first is of a width of 0, the last of all beyond.
    """

    widths: tuple[Width, ...]
    steps: tuple[float, ...]
    values: Doubles


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer by one measure.

    Attributes:
        measure: what is counted, such as macs.
        axes: numbers of the axes that its cost is proportional to.
        scale: cost per product of the sizes of these axes; a factor on the table where it has one.
        table: measured costs, by further axes.
    """

    measure: str
    axes: tuple[int, ...]
    scale: float = 1.0
    table: Table | None = None

    @property
    def reads(self) -> frozenset[int]:
        """All axes that it depends on."""
        tabled = () if self.table is None else self.table.widths
        return frozenset(self.axes).union(*(width.axes for width in tabled))


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

    def copy(self) -> State:
        """One that may be moved."""
        return State(self.options.copy(), self.sizes.copy(), self.total.copy())


class Sum:
    """What layers cost together, at many sizes of their axes at once.

    Args:
        layers: in any order.
        measures: what to count.
        axes: those that stand in the rows of sizes, in their order.
    """

    def __init__(self, layers: Sequence[Layer], measures: Sequence[str], axes: Sequence[int]) -> None:
        place = {axis: at for at, axis in enumerate(axes)}
        self._products = _Products([layer.axes for layer in layers], place)
        rows = [[layer.scale * (layer.measure == measure) for layer in layers] for measure in measures]
        self._scales = np.array(rows, float).reshape(len(measures), len(layers))
        self._tabled = np.array([at for at, layer in enumerate(layers) if layer.table], np.int64)
        self._tables = _Tables([layer.table for layer in layers if layer.table], place)

    def at(self, sizes: Doubles) -> Doubles:
        """Costs [measures, choices] at sizes [axes + 1, choices], the last of which are 1."""
        each = self._products.at(sizes)
        if len(self._tabled):
            each[self._tabled] *= self._tables.at(sizes)
        return np.asarray(self._scales @ each)


class _Products:
    """Products of some axes each; the last row of sizes is always 1."""

    def __init__(self, factors: Sequence[Sequence[int]], place: Mapping[int, int]) -> None:
        most, one = max(map(len, factors), default=0), len(place)
        ends = [[*(place[axis] for axis in each), *[one] * (most - len(each))] for each in factors]
        self._ends = [*np.array(ends, np.int64).reshape(len(factors), most).T] or [np.full(len(factors), one)]

    def at(self, now: Doubles) -> Doubles:
        found: Doubles = now.take(self._ends[0], axis=0)
        for ends in self._ends[1:]:
            found *= now.take(ends, axis=0)
        return found


class _Tables:
    """Tables of one width or two, one behind the other."""

    def __init__(self, tables: Sequence[Table], place: Mapping[int, int]) -> None:
        self._values = np.concatenate([each.values.ravel() for each in tables] or [np.empty(0)])
        self._starts = np.cumsum([0, *(each.values.size for each in tables)])[:-1, None]
        self._columns = np.array([[each.values[0].size] for each in tables], np.int64)
        self._sides = [_Side(tables, number, place) for number in range(2)]

    def at(self, now: Doubles) -> Doubles:
        rows, columns = (side.at(now) for side in self._sides)
        return np.asarray(self._values[self._starts + rows * self._columns + columns])


class _Side:
    """The rows of tables, or their columns; a table without columns has one, of any width."""

    def __init__(self, tables: Sequence[Table], number: int, place: Mapping[int, int]) -> None:
        widths = [each.widths[number] if number < len(each.widths) else Width((), 0.0) for each in tables]
        steps = [each.steps[number] if number < len(each.steps) else 1.0 for each in tables]
        self._products = _Products([width.axes for width in widths], place)
        each = [width.each / step for width, step in zip(widths, steps, strict=True)]
        self._each = np.array(each)[:, None]
        shapes = [each.values.shape for each in tables]
        self._last = np.array([[shape[number] - 1 if number < len(shape) else 0] for shape in shapes], float)

    def at(self, now: Doubles) -> Ids:
        steps = np.ceil(self._products.at(now) * self._each - ROUNDING)
        return np.asarray(np.clip(steps, 0, self._last), np.int64)


class Counter:
    """Counts choices of widths by some measures.

    Args:
        costs: of the model.
        measures: what to count.

    Attributes:
        products: whether every cost is a product of sizes.
    """

    def __init__(self, costs: Costs, measures: Sequence[str]) -> None:
        self.costs, self.measures = costs, tuple(measures)
        self._layers = [layer for layer in costs.layers if layer.measure in self.measures]
        self.products = not any(layer.table for layer in self._layers)
        self._fixed = np.array([costs.fixed.get(measure, 0.0) for measure in measures])
        self._axes: dict[int, list[int]] = {}
        for number, axis in enumerate(costs.axes):
            for group in axis.parts:
                self._axes.setdefault(group, []).append(number)
        self._readers: dict[int, list[int]] = {}
        for number, layer in enumerate(self._layers):
            for place in layer.reads:
                self._readers.setdefault(place, []).append(number)
        self._parts: dict[tuple[int, ...], Part] = {}
        self._near: dict[int, tuple[int, ...]] = {}
        self._others: dict[int, Ids] = {}
        self._known: dict[int, dict[bytes, Doubles]] = {}
        self._every: dict[int, dict[int, Ids]] = {}
        self._whole = Part(self, self._layers, ())

    def state(self, options: Ids) -> State:
        """What a choice comes to."""
        sizes = np.array([axis.fixed for axis in self.costs.axes], float)
        for group, axes in self._axes.items():
            for number in axes:
                sizes[number] += self.costs.axes[number].parts[group][options[group]]
        return State(options, sizes, self._fixed + self._whole.costs({}, State(options, sizes, sizes))[:, 0])

    def each(self, state: State, group: int) -> Doubles:
        """What depends on a Group, at each of its options, [measures, options]; one where nothing does."""
        key = state.options.take(self.others(group)).tobytes()
        known = self._known.setdefault(group, {})
        found = known.get(key)
        if found is None:
            if len(known) == KEPT:
                known.clear()
            found = known[key] = self.part((group,)).costs(self._options(group), state)
        return found

    def _options(self, group: int) -> Mapping[int, Ids]:
        """All options of a Group; the first where nothing depends on it."""
        if group not in self._every:
            parts = (self.costs.axes[axis].parts[group] for axis in self._axes.get(group, ()))
            self._every[group] = {group: np.arange(len(next(parts, (0.0,))))}
        return self._every[group]

    def others(self, group: int) -> Ids:
        """Groups next to one."""
        if group not in self._others:
            self._others[group] = np.array([each for each in self.near(group) if each != group], np.int64)
        return self._others[group]

    def moved(self, state: State, moves: Mapping[int, int]) -> State:
        """The state after some Groups took other options."""
        found = state.copy()
        for group, option in moves.items():
            self.move(found, group, option)
        return found

    def move(self, state: State, group: int, option: int) -> None:
        """Gives a Group another option, in place."""
        before = state.options[group]
        if group in self._axes:
            each = self.each(state, group)
            np.add(state.total, each[:, option] - each[:, before], out=state.total)
        for number in self._axes.get(group, ()):
            slots = self.costs.axes[number].parts[group]
            state.sizes[number] += slots[option] - slots[before]
        state.options[group] = option

    def near(self, group: int) -> tuple[int, ...]:
        """Groups whose savings a Group's width changes, itself among them."""
        if group not in self._near:
            layers = {layer for axis in self._axes.get(group, ()) for layer in self._readers.get(axis, ())}
            axes = {axis for layer in layers for axis in self._layers[layer].reads}
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
        numbers = sorted({axis for layer in layers for axis in layer.reads})
        self._axes = np.array(numbers, np.int64)
        self._moved = [
            (at, group, axes[axis].parts[group])
            for at, axis in enumerate(numbers)
            for group in groups
            if group in axes[axis].parts
        ]
        self._sum = Sum(layers, counter.measures, numbers)

    def costs(self, tried: Mapping[int, Ids], state: State) -> Doubles:
        """What these layers cost, [measures, choices].

        Args:
            tried: options of the Groups that the layers were asked for by, arrays of one length.
            state: of all Groups; others stay as they are.
        """
        count = len(next(iter(tried.values()))) if tried else 1
        now = np.empty((len(self._axes) + 1, count))
        now[-1] = 1.0
        now[:-1] = state.sizes.take(self._axes)[:, None]
        for at, group, slots in self._moved:
            if group in tried:
                now[at] += slots[tried[group]] - slots[state.options[group]]
        return self._sum.at(now)
