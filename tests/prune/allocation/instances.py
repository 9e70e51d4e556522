"""Small random networks, and what is best for them by trying everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from graphprune.ir.arrays import Doubles
from graphprune.prune.allocation import Axis, Costs, Layer, Table, Width

MEASURES = ("macs", "params")
MOST = 8_000
"""Combinations of options that are tried."""
TABLED = 2
"""Axes of a table."""


@dataclass(frozen=True)
class Instance:
    """Losses per width, costs and budgets."""

    losses: list[Doubles]
    costs: Costs
    targets: Mapping[str, float]


def instance(seed: int, *, staircase: bool = False) -> Instance:
    """Three to six Groups, layers of one to three axes; one budget or two."""
    rng = np.random.default_rng(seed)
    steps = [int(rng.integers(3, 8)) for _ in range(int(rng.integers(3, 7)))]
    while np.prod(steps) > MOST:
        steps[int(np.argmax(steps))] -= 1
    widths = [
        np.linspace(w := float(rng.integers(8, 65)), w * rng.uniform(0.1, 0.3), k).round() for k in steps
    ]
    axes = [Axis(0, {group: each}) for group, each in enumerate(widths)]
    axes += [Axis(float(rng.integers(1, 20))), Axis(4.0, {0: widths[0], 2: widths[2]})]  # an input, a Concat
    layers = [layer for measure in MEASURES for layer in _layers(rng, measure, len(steps), len(axes))]
    if staircase:
        layers = [_stairs(layer, axes) if at % 2 else layer for at, layer in enumerate(layers)]
    losses = [
        np.concatenate([[0.0], np.cumsum(_added(rng, k - 1))]) * 10 ** rng.uniform(-1, 1) for k in steps
    ]
    costs = Costs(tuple(axes), tuple(layers), {"macs": 10.0})
    dense = np.zeros(len(steps), np.int64)
    wanted = MEASURES if seed % 2 else MEASURES[:1]
    return Instance(losses, costs, {m: costs.total(dense, m) * rng.uniform(0.25, 0.9) for m in wanted})


def _layers(rng: np.random.Generator, measure: str, groups: int, axes: int) -> Iterator[Layer]:
    for group in range(groups):
        yield Layer(measure, (group, groups), float(rng.integers(1, 10)))
    for _ in range(groups):
        some = rng.choice(axes, int(rng.integers(1, 4)), replace=False)
        yield Layer(measure, tuple(some.tolist()), float(rng.integers(1, 10)))


def _stairs(layer: Layer, axes: list[Axis]) -> Layer:
    """A layer that costs what the next multiple of 8 of its first two axes does."""
    tabled = layer.axes[:TABLED]
    most = [axes[a].fixed + sum(max(part) for part in axes[a].parts.values()) for a in tabled]
    points = [np.arange(0.0, 8 + each, 8) for each in most]
    values = np.prod(np.meshgrid(*points, indexing="ij"), axis=0)
    table = Table(tuple(Width((axis,)) for axis in tabled), tuple(8.0 for _ in tabled), values)
    return Layer(layer.measure, layer.axes[TABLED:], layer.scale, table)


def _added(rng: np.random.Generator, count: int) -> Doubles:
    """What each step loses; mostly more than the one before."""
    drawn = rng.exponential(size=count) ** rng.uniform(0.5, 3)
    return np.sort(drawn) if rng.random() < 0.7 else drawn


def best(given: Instance) -> float | None:
    """The least loss within the budgets, None where nothing meets them; it counts with its own loops."""
    grid = np.array(list(product(*(range(len(each)) for each in given.losses))))
    loss = sum(each[grid[:, group]] for group, each in enumerate(given.losses))
    held = np.ones(len(grid), bool)
    for measure, target in given.targets.items():
        held &= counted(given.costs, measure, grid) <= target * (1 + 1e-9)
    return float(loss[held].min()) if held.any() else None


def counted(costs: Costs, measure: str, grid: np.ndarray) -> Doubles:
    """What choices cost, one per row."""
    total = np.full(len(grid), costs.fixed.get(measure, 0.0))
    for layer in costs.layers:
        if layer.measure != measure:
            continue
        sizes = [_sizes(costs, axis, grid) for axis in layer.axes]
        if layer.table is not None:
            tabled = (_sizes(costs, axis, grid) for width in layer.table.widths for axis in width.axes)
            sizes += [np.ceil(size / 8 - 1e-12) * 8 for size in tabled]
        total += layer.scale * np.prod(sizes, axis=0)
    return total


def _sizes(costs: Costs, axis: int, grid: np.ndarray) -> Doubles:
    """The size of an axis at every choice."""
    size = np.full(len(grid), float(costs.axes[axis].fixed))
    for group, slots in costs.axes[axis].parts.items():
        size += slots[grid[:, group]]
    return size


def greedy(given: Instance) -> tuple[int, ...] | None:
    """The steps of all Groups by loss per dense cost, taken until the budgets hold: what `choose` does."""
    dense = np.zeros((1, len(given.losses)), np.int64)
    steps = []
    for group, loss in enumerate(given.losses):
        last = dense.copy()
        last[0, group] = len(loss) - 1
        saved = sum(
            (counted(given.costs, m, dense) - counted(given.costs, m, last))[0] / t
            for m, t in given.targets.items()
        )
        rates = np.maximum.accumulate(np.diff(loss)) / (max(saved, 1e-9) / (len(loss) - 1))
        steps += [(rate, group, at + 1) for at, rate in enumerate(rates.tolist())]
    order = [(0.0, 0, 0), *sorted(steps)]
    taken = np.zeros((len(order), len(given.losses)), np.int64)
    for number, (_, group, option) in enumerate(order):
        taken[number, group] = option
    taken = np.maximum.accumulate(taken)
    held = [counted(given.costs, m, taken) <= t * (1 + 1e-9) for m, t in given.targets.items()]
    met = np.flatnonzero(np.all(held, axis=0))
    return tuple(taken[met[0]].tolist()) if len(met) else None
