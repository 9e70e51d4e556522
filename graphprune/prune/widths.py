"""Budgets as the solver takes them: widths that each Group may have, what they lose and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.axes.products import Counted, Product
from graphprune.ir.arrays import Doubles, Ids
from graphprune.labels.atoms import NOTHING
from graphprune.prune.allocate import Cuts
from graphprune.prune.allocation import Axis, Costs, Layer, solve
from graphprune.prune.latency.model import LatencyModel, translated

OPTIONS = 32
"""Widths of a Group that are tried at once."""
TIGHTER = 6
"""How often targets are drawn tighter by what the solver does not see."""
LEVELS = 3
"""How often the widths between those next to the chosen ones are tried."""
Paths = list["Path"]
"""Axes whose sizes multiply to what is kept of a factor."""
Gone = dict[int, int]
"""Units that go, by the number of the Group."""


@dataclass(frozen=True, eq=False)
class Widths:
    """One Group as the solver sees it.

    Attributes:
        group: its number.
        removed: Units that may go, rising from none.
        losses: of each of these.
    """

    group: int
    removed: Ids
    losses: Doubles

    def some(self, low: int, at: int, high: int) -> Ids:
        """At most OPTIONS of the places from `low` to `high`, spread evenly, these three among them."""
        spread = np.linspace(low, high, min(OPTIONS, high - low + 1)).round().astype(np.int64)
        return np.unique([*spread, at])


@dataclass(frozen=True, eq=False)
class Allocation:
    """A model, some Groups of which may have other widths.

    Args:
        analysis: of the model.
        model: counts it.
        groups: numbered as the widths say.
        fixed: cuts that are made in any case.
        targets: what may be left, by measure.
        left: counts what a choice leaves, as budgets are judged.
    """

    analysis: Analysis
    model: CostModel
    groups: Sequence[Group]
    fixed: Cuts
    targets: Mapping[str, float]
    left: Callable[[Gone], Mapping[str, float]]

    def solve(self, widths: Sequence[Widths]) -> Gone | None:
        """Units that go of each Group at the least loss within all budgets; None where none was found.

        What the solver cannot see (biases that repair adds, clones) is taken off its targets.
        """
        factors = self._factors(widths)
        targets = dict(self.targets)
        for _ in range(TIGHTER):
            found, foreseen = self._refined(widths, factors, targets)
            left = self.left(found)
            if all(left[measure] <= target for measure, target in self.targets.items()):
                return found
            for measure, target in self.targets.items():
                targets[measure] = min(targets[measure], target - (left[measure] - foreseen[measure]))
        return None

    def _refined(
        self, widths: Sequence[Widths], factors: Sequence[Paths], targets: Mapping[str, float]
    ) -> tuple[Gone, Mapping[str, float]]:
        """Solved among a few widths of each Group, then among those next to the chosen ones; what is left."""
        ends = [(0, 0, len(each.removed) - 1) for each in widths]
        foreseen: Mapping[str, float] = {}
        for _ in range(LEVELS):
            places = [each.some(*end) for each, end in zip(widths, ends, strict=True)]
            start = [int(np.searchsorted(mine, at)) for mine, (_, at, _) in zip(places, ends, strict=True)]
            pairs = list(zip(widths, places, strict=True))
            left = [self.groups[each.group].size - each.removed[mine] for each, mine in pairs]
            losses = [each.losses[mine] for each, mine in pairs]
            found = solve(losses, self._costs(left, factors, targets), targets, [start])
            foreseen = found.costs
            chosen = zip(places, found.options, strict=True)
            ends = [
                (int(mine[max(0, at - 1)]), int(mine[at]), int(mine[min(len(mine) - 1, at + 1)]))
                for mine, at in chosen
            ]
            if all(len(each.removed) == len(mine) for each, mine in pairs):
                break
        places_at = zip(widths, ends, strict=True)
        return {each.group: int(each.removed[at]) for each, (_, at, _) in places_at if at}, foreseen

    def _costs(self, left: Sequence[Ids], factors: Sequence[Paths], measures: Mapping[str, float]) -> Costs:
        """What the model costs at some of the widths."""
        axes = [path.axis(left) for factor in factors for path in factor]
        starts = np.cumsum([0, *(len(factor) for factor in factors)])
        layers, fixed = list[Layer](), dict[str, float]()
        for measure in measures:
            if measure == "latency":
                fixed[measure], timed = self._timed(factors, starts)
                layers += timed
                continue
            fixed[measure], items = self.model.counted(measure)
            layers += [_layer(measure, item, factors, starts) for item in items]
        return Costs(tuple(axes), tuple(layers), fixed)

    def _timed(self, factors: Sequence[Paths], starts: Ids) -> tuple[float, list[Layer]]:
        """Nanoseconds that nothing changes, and of nodes; their factors stand behind the others."""
        clock = self._clock
        assert clock is not None
        first = len(self.model.factors)
        places = [range(start, end) for start, end in pairwise(starts[first:].tolist())]
        sizes = [[path.size for path in factor] for factor in factors[first:]]
        return clock.fixed, [translated(layer, places, sizes) for layer in clock.layers]

    @property
    def _clock(self) -> LatencyModel | None:
        found = self.model.clock
        return found if isinstance(found, LatencyModel) else None

    def _factors(self, widths: Sequence[Widths]) -> list[Paths]:
        """Every factor that is counted, as the product of the sizes of one axis or more."""
        atoms = self.analysis.state.atoms
        numbers = {self.groups[each.group].id: at for at, each in enumerate(widths)}
        owner = np.full(len(atoms), NOTHING, np.int64)
        kept = np.ones(len(atoms))
        for group in self.analysis.groups:
            owner[group.atoms] = numbers.get(group.id, NOTHING)
            if group.id in self.fixed:
                kept[group.atoms] = len(self.fixed[group.id]) / group.size
        sizes = [self.groups[each.group].size for each in widths]
        timed = [] if self._clock is None else self._clock.factors
        every = [*self.model.factors, *timed]
        return [list(_paths(atoms.base(factor), owner, kept, sizes)) for factor in every]


@dataclass(frozen=True, eq=False)
class Path:
    """One of the axes whose sizes multiply to what is kept of a factor.

    Attributes:
        size: positions.
        fixed: those that no Group of the solver removes.
        each: positions per Unit, by number of the Group.
    """

    size: int
    fixed: float
    each: Mapping[int, float]

    def axis(self, left: Sequence[Ids]) -> Axis:
        """At some widths of each Group."""
        return Axis(self.fixed, {g: np.asarray(each * left[g], np.float64) for g, each in self.each.items()})


def _paths(base: tuple[Ids, Ids, Ids], owner: Ids, kept: Doubles, sizes: Sequence[int]) -> Iterator[Path]:
    """An axis per path from the atoms of a factor to their leaves: head and dim of what is flattened."""
    position, leaf, path = base
    size = int(position.max()) + 1 if len(position) else 0
    for step in np.unique(path):
        mine = path == step
        groups, leaves = owner[leaf[mine]], leaf[mine]
        fixed = float(size - mine.sum() + kept[leaves[groups == NOTHING]].sum())
        found = {int(g): float((groups == g).sum()) / sizes[g] for g in np.unique(groups) if g != NOTHING}
        yield Path(size, fixed, found)


def _layer(measure: str, item: Counted, factors: Sequence[Paths], starts: Ids) -> Layer:
    """Of a tensor with several uses the first; what clones add is drawn tighter for."""
    if isinstance(item, Product):
        mine, scale = item.factors, item.dense / item.size
    else:
        use = item.uses[0]
        mine = tuple(number for _, each in use.axes for number in each)
        scale = item.packing * prod(size for size, _ in use.axes) / use.blocks
    for factor in mine:
        scale /= prod(each.size for each in factors[factor][1:])
    return Layer(measure, tuple(int(at) for f in mine for at in range(starts[f], starts[f + 1])), scale)
