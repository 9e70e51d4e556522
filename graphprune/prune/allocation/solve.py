"""One width per Group: least loss within several budgets.

The cost of a layer is a product of two or three widths, so this is no knapsack. Prices per measure turn
budgets into a sum; at given prices each Group in turn takes its best width while the others stay (coordinate
descent), and prices are found by bisection, one measure after another. What that leaves is taken by exact
moves of one, two and three Groups at a time. Effort is counted, never timed, so the same input gives the same
widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np

from graphprune.ir.arrays import Doubles, Ids
from graphprune.prune.allocation.costs import Costs, Counter, State

SWEEPS = 12
"""Rounds of coordinate descent at one price."""
BISECTIONS = 7
ROUNDS = 3
"""How often the price of each measure is found anew, where there are several."""
STARTS = 3
"""Choices that are improved by exact moves: those of least loss."""
MOVES = 700
"""Sets of Groups that exact moves try in all."""
GRID = 512
"""Combinations of options that one exact move tries."""
ROUNDING = 1e-9
TINY = 1e-12
"""Prices are looked for within this of the usual one, up and down."""


@dataclass(frozen=True)
class Solution:
    """The options that were chosen.

    Attributes:
        options: one per Group.
        loss: what they lose together.
        costs: what is left by each measure.
        met: whether all budgets hold; where not, this is the nearest there is.
    """

    options: tuple[int, ...]
    loss: float
    costs: Mapping[str, float]
    met: bool


def solve(
    losses: Sequence[Doubles],
    costs: Costs,
    targets: Mapping[str, float],
    starts: Sequence[Sequence[int]] = (),
) -> Solution:
    """The options of least loss within the budgets.

    Args:
        losses: of every Group at each of its options; the first keeps all Units.
        costs: of the model at these options.
        targets: what may be left, by measure.
        starts: choices to improve on; the result loses no more than the best of them that meets all budgets.
    """
    return _Search(losses, costs, targets).run([np.array(start, np.int64) for start in starts])


class _Search:
    def __init__(self, losses: Sequence[Doubles], costs: Costs, targets: Mapping[str, float]) -> None:
        self.losses = [np.asarray(each, np.float64) for each in losses]
        self.measures = tuple(targets)
        self.counter = Counter(costs, self.measures)
        limits = np.array([targets[measure] for measure in self.measures])
        self.limits = np.maximum(limits, ROUNDING) * (1 + ROUNDING)
        self.found: dict[tuple[int, ...], State] = {}
        self.moves = 0

    def run(self, starts: Sequence[Ids]) -> Solution:
        dense = self.counter.state(np.zeros(len(self.losses), np.int64))
        given = [self.counter.state(start) for start in starts]
        met = self._visit(dense)
        for start in given:
            self._visit(start)
        least = self._least()
        if not self._visit(least) and not self.found:
            return self._solution(least, met=False)
        if not met:
            self._walked(dense)
            for start in (dense, least):
                self._priced(start)
        best = sorted(self.found.values(), key=self._order)[:STARTS]
        return self._solution(min(map(self._improved, best), key=self._order))

    def _solution(self, state: State, met: bool = True) -> Solution:
        total = dict(zip(self.measures, state.total.tolist(), strict=True))
        return Solution(tuple(state.options.tolist()), self._loss(state), total, met)

    def _loss(self, state: State) -> float:
        return float(sum(each[at] for each, at in zip(self.losses, state.options, strict=True)))

    def _order(self, state: State) -> tuple[float, tuple[int, ...]]:
        return self._loss(state), tuple(state.options.tolist())

    def _visit(self, state: State) -> bool:
        """Whether a choice meets all budgets; what does is kept in mind."""
        held = bool((state.total <= self.limits).all())
        if held:
            self.found[tuple(state.options.tolist())] = state
        return held

    def _descend(self, state: State, prices: Doubles, weigh: bool = True) -> State:
        """Each Group in turn at its best width for these prices and, weighed, its loss, until none moves."""
        stale = np.ones(len(self.losses), bool)  # what next to a Group has not moved leaves its best width
        state = state.copy()
        for _ in range(SWEEPS):
            for group in np.flatnonzero(stale).tolist():
                stale[group] = False
                each = self.counter.each(state, group)
                weighed = prices @ each
                at = int((weighed + self.losses[group] if weigh else weighed).argmin())
                if at != state.options[group]:
                    self.counter.move(state, group, at)
                    stale[self.counter.others(group)] = True
            if not stale.any():
                break
        return state

    def _least(self) -> State:
        """What costs least, relative to the budgets."""
        last = self.counter.state(np.array([len(each) - 1 for each in self.losses], np.int64))
        tried = [self._descend(last, 1 / self.limits, weigh=False), last]
        return min(tried, key=lambda state: (float((state.total / self.limits).max()), tuple(state.options)))

    def _walked(self, state: State) -> None:
        """Visits where a walk ends that always takes the step of least loss per what it saves.

        Where costs are products a step saves less once a neighbour is narrower, so rates only rise, and those
        that are old bound the new ones from below (Minoux, "Accelerated greedy algorithms", 1978).
        """
        state = state.copy()
        rates, options = np.full(len(self.losses), -np.inf), np.zeros(len(self.losses), np.int64)
        stale = set(range(len(self.losses)))
        while (over := state.total > self.limits).any():
            group = int(rates.argmin())
            while stale and (group in stale or not self.counter.products):
                again = {group} if self.counter.products else stale
                for each in again:
                    rates[each], options[each] = self._step(state, each, over / self.limits)
                stale = stale - again
                group = int(rates.argmin())
            if rates[group] == np.inf:
                return
            self.counter.move(state, group, int(options[group]))
            stale |= set(self.counter.near(group))
            if (over != (state.total > self.limits)).any():
                rates, stale = np.full(len(self.losses), -np.inf), set(range(len(self.losses)))
        self._visit(state)

    def _step(self, state: State, group: int, prices: Doubles) -> tuple[float, int]:
        """The rate and the option further on that loses least per what it saves; inf where none saves."""
        at, loss = int(state.options[group]), self.losses[group]
        costs = prices @ self.counter.each(state, group)
        if len(costs) < len(loss):  # nothing depends on it
            return np.inf, at
        saved = costs[at] - costs[at + 1 :]
        if not len(saved):
            return np.inf, at
        rates = np.empty(len(saved))
        rates.fill(np.inf)
        np.divide(
            np.maximum(loss[at + 1 :] - loss[at], 0), saved, out=rates, where=saved > ROUNDING * costs[at]
        )
        best = int(rates.argmin())
        return float(rates[best]), at + 1 + best

    def _priced(self, state: State) -> None:
        """Visits what is best at the prices at which the budgets just hold."""
        prices = np.zeros(len(self.measures))
        for _ in range(ROUNDS if len(self.measures) > 1 else 1):
            before = prices.copy()
            for measure in range(len(self.measures)):
                state = self._price(measure, prices, state)
            if np.allclose(before, prices, rtol=1e-3):
                break

    def _price(self, measure: int, prices: Doubles, state: State) -> State:
        """The lowest price at which one budget holds, the other prices as they are; written into `prices`."""

        def at(price: float) -> bool:
            nonlocal state
            prices[measure] = price
            state = self._descend(state, prices)
            self._visit(state)
            return bool(state.total[measure] <= self.limits[measure])

        if at(0.0):
            return state
        usual = max(sum(float(np.ptp(each)) for each in self.losses), 1e-300) / float(self.limits[measure])
        low = high = usual
        while not at(high) and high < usual / TINY:
            low, high = high, 4 * high
        while high == low and at(low) and low > usual * TINY:
            low /= 4
        for _ in range(BISECTIONS):
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if at(middle) else (middle, high)
        at(high)
        return state

    def _improved(self, state: State) -> State:
        """By exact moves of one, two and three Groups, until none helps."""
        self.moves = 0
        better: State | None = state
        while better is not None:
            state = better
            better = next((found for size in (1, 2, 3) if (found := self._round(state, size))), None)
        return state

    def _round(self, state: State, size: int) -> State | None:
        """The choice after a round of moves of so many Groups, if any of them helped."""
        now = state
        for groups in _neighbours(len(self.losses), size):
            if self.moves >= MOVES:
                break
            self.moves += 1
            now = self._move(now, groups)
        return None if now is state else now

    def _move(self, state: State, groups: tuple[int, ...]) -> State:
        """The best options of some Groups while the others stay, if they lose less than now."""
        reach = max(1, int(GRID ** (1 / len(groups))) // 2)
        near = [self._near(group, int(state.options[group]), reach) for group in groups]
        loss = reduce(
            np.add.outer, [self.losses[group][each] for group, each in zip(groups, near, strict=True)]
        )
        now = sum(float(self.losses[group][state.options[group]]) for group in groups)
        useful = np.flatnonzero(loss < now - ROUNDING * abs(now))
        if not len(useful):
            return state
        places = np.unravel_index(useful, loss.shape)
        grid = {group: each[at] for group, each, at in zip(groups, near, places, strict=True)}
        tried = {group: np.append(chosen, state.options[group]) for group, chosen in grid.items()}
        costs = self.counter.part(groups).costs(tried, state)
        room = self.limits - state.total + costs[:, -1]
        held = np.flatnonzero((costs[:, :-1] <= room[:, None]).all(axis=0))
        if not len(held):
            return state
        best = held[np.argmin(loss.ravel()[useful[held]])]
        return self.counter.moved(state, {group: int(chosen[best]) for group, chosen in grid.items()})

    def _near(self, group: int, at: int, reach: int) -> Ids:
        """Options next to one."""
        return np.arange(max(0, at - reach), min(len(self.losses[group]), at + reach + 1))


def _neighbours(count: int, size: int) -> Iterator[tuple[int, ...]]:
    """Sets of Groups, those that are near each other in the model first."""
    spans = range(size - 1, count if size > 1 else 1)
    for span in spans:
        for first in range(count - span):
            for inner in combinations(range(first + 1, first + span), max(0, size - 2)):
                yield (first, *inner, first + span)[:size]
