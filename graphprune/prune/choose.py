"""From scores to kept Units: some Groups by ratios of their own, the rest in one order, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.ir.arrays import Scores
from graphprune.prune.allocate import MOST, Cost, Cuts, counter, least_share
from graphprune.prune.curves import Curves
from graphprune.prune.finer import SLACK, CostRoom, Gone, Landed, Landing, Steps, cost_room, fill, room
from graphprune.prune.select import (
    Align,
    Ladder,
    Order,
    Scope,
    alignment,
    in_order,
    ladder,
    take_ratio,
    take_until,
)
from graphprune.prune.widths import Allocation, Widths

What = Literal["ratio", "params", "macs", "bytes", "latency"]
BYTES = 4
"""Of a parameter that repair adds; what is wider is found when the result is built."""
MILLISECOND = 1e6
Shares = Callable[[float], Mapping[str, float]]
"""Share to remove of each Group, at a share to remove of all of them."""


@dataclass(frozen=True)
class Budget:
    """What to reach: a share of Units removed, or what may be left of a whole model.

    Attributes:
        what: `ratio`, or what is counted.
        asked: a share up to 1, an amount above; of latency in nanoseconds.
        whole: what a share is one of; None: the model at hand.
    """

    what: What
    asked: float
    whole: int | None = None

    def __str__(self) -> str:
        if self.what == "latency" and self.asked > 1:
            return f"latency={self.asked / MILLISECOND:.10g}ms"
        return f"{self.what}={self.asked:.10g}"

    def target(self, dense: int) -> int:
        """What may be left of the model at hand, which has `dense` of it."""
        if self.asked > 1:
            return int(self.asked)
        return int(np.floor(self.asked * (dense if self.whole is None else self.whole)))

    def over(self, cost: CostModel, kept: Kept, added: int = 0, surplus: int = 0) -> float:
        """Share of the model by which a cut and its repair go beyond this; negative where they miss it."""
        _, dense = counter(cost, self.what)
        return (self.target(dense) - self.left(cost, kept, added, surplus)) / max(1, dense)

    def left(self, cost: CostModel, kept: Kept, added: int = 0, surplus: int = 0) -> int:
        """What a cut and its repair leave."""
        return counter(cost, self.what)[0](kept) + self.grown(added, surplus)

    def share(self, cost: CostModel, kept: Kept, added: int = 0) -> float:
        """What a cut and its repair leave, of what this is a share of; never more than is at hand."""
        _, dense = counter(cost, self.what)
        left = min(dense, self.left(cost, kept, added))
        return left / max(1, dense if self.whole is None else self.whole)

    def grown(self, added: int, surplus: int = 0) -> int:
        """By what repair makes the model larger: so many parameters, and further bytes."""
        return {"params": added, "bytes": BYTES * added + surplus}.get(self.what, 0)

    def part(self, done: float, dense: int) -> Budget:
        """The budget of a first part of the way to this one, from a model that has `dense` of it."""
        if self.what == "ratio":
            return replace(self, asked=self.asked * done)
        whole = max(1, dense if self.whole is None else self.whole)
        start, end = dense / whole, self.asked if self.asked <= 1 else self.asked / whole
        return replace(self, asked=start - (start - end) * done)


@dataclass(frozen=True)
class Rules:
    """Which steps are legal, and which Units compete.

    Attributes:
        scope: which Units compete.
        align: kept widths are multiples of this.
        min_keep: share of every Group that stays.
        own: Groups with a ratio of their own.
        counted: what a ratio is a share of.
        added: parameters that the repair of a cut adds.
        surplus: bytes that a cut adds beside them.
    """

    scope: Scope
    align: Align
    min_keep: float
    own: Mapping[str, float] = field(default_factory=dict)
    counted: Cost = "unit"
    added: Callable[[Kept], int] = lambda kept: 0
    surplus: int = 0

    @property
    def counts(self) -> Cost:
        """What a ratio is a share of: Units, where they do not all compete."""
        return self.counted if self.scope == "global" else "unit"


@dataclass(frozen=True)
class Choice:
    """Kept Units of the Groups that shrink.

    Attributes:
        missed: budgets out of reach, with the least share that is.
        forced: why a budget is left far behind, or a ratio not used up, in words.
    """

    cuts: Cuts
    missed: Mapping[Budget, float] = field(default_factory=dict)
    forced: str = ""


def choose(
    groups: tuple[Group, ...],
    scores: Mapping[str, Scores],
    budgets: Sequence[Budget],
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
    shares: Shares | None = None,
    curves: Curves | None = None,
) -> Choice:
    """Removes the least salient Units within all budgets.

    Args:
        groups: Groups that may shrink.
        scores: one number per Unit of each; higher = keep.
        budgets: what to reach: one ratio, or whatever may be left.
        rules: legal steps.
        analysis: of the model.
        cost: counts the model; only asked for where a budget counts it.
        shares: how much each Group gives, where the scores do not decide it.
        curves: what Groups lose, where that decides how much each gives.
    """
    ladders = [
        ladder(number, group, scores[group.id], alignment(group, rules.align), rules.min_keep)
        for number, group in enumerate(groups)
    ]
    fixed = _local(groups, ladders, rules.own)
    free = [steps for steps in ladders if groups[steps.group].id not in rules.own]
    timed = any(budget.what == "latency" for budget in budgets)  # what a width gains, the profile knows
    steps = Steps(groups, scores, free, rules.align, rules.min_keep, finer=not timed)
    if budgets[0].what == "ratio":
        return _by_ratio(steps, fixed, budgets[0].asked, rules, analysis, cost, shares)
    return _by_cost(steps, fixed, budgets, rules, analysis, cost(), shares, curves)


def _local(groups: Sequence[Group], ladders: Sequence[Ladder], ratios: Mapping[str, float]) -> Cuts:
    """Every Group by its own ratio."""
    cuts: Cuts = {}
    for steps in ladders:
        ratio = ratios.get(groups[steps.group].id)
        if ratio is not None:
            order = in_order([steps], groups, "local")
            cuts |= order.kept(take_ratio(order, groups, ratio, "local"), groups)
    return cuts


def _by_ratio(
    steps: Steps,
    fixed: Cuts,
    ratio: float,
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
    shares: Shares | None,
) -> Choice:
    groups = steps.groups
    if shares is not None:
        forced = "every Group gives the share that the method says, in whole steps"
        return Choice(fixed | _local(groups, steps.own, shares(ratio)), forced=forced)
    order = in_order(steps.own, groups, rules.scope)
    if rules.counts == "unit":
        pool = [group for group in groups if group.id not in rules.own] if rules.scope == "global" else groups
        taken = order.gone(take_ratio(order, pool, ratio, rules.scope))
        numbers = [ladder.group for ladder in steps.own]
        landed = fill(steps, room(groups, numbers, ratio, rules.scope), taken)
    else:
        left = _left(analysis, fixed, counter(cost(), rules.counts)[0])
        allowed = cost_room(steps, left, ratio)
        landed = fill(steps, allowed, order.gone(_within(order, groups, allowed)))
    why = "" if landed.met else _unused(landed.forced, rules)
    return Choice(fixed | steps.cuts(landed.gone), forced=why)


def _unused(step: str, rules: Rules) -> str:
    """Why no more goes than a ratio allows."""
    if step:
        return f"the smallest step there is, {step}, would be too many"
    return f"no Group has a legal step left (min-keep={rules.min_keep:g}, align={rules.align})"


def _by_cost(
    steps: Steps,
    fixed: Cuts,
    budgets: Sequence[Budget],
    rules: Rules,
    analysis: Analysis,
    model: CostModel,
    shares: Shares | None,
    curves: Curves | None,
) -> Choice:
    def grown(kept: Kept) -> tuple[int, int]:
        counted = any(budget.what in ("params", "bytes") for budget in budgets)
        return rules.added(kept) if counted else 0, rules.surplus

    def over(kept: Kept) -> list[float]:
        return [budget.over(model, kept, *grown(kept)) for budget in budgets]

    def left(gone: Gone) -> dict[str, float]:
        kept = Kept(analysis, fixed | steps.cuts(gone))
        return {budget.what: budget.left(model, kept, *grown(kept)) for budget in budgets}

    landing = Landing(steps, lambda cuts: min(over(Kept(analysis, fixed | cuts))))
    way = _way(steps, rules, landing) if shares is None else _way_by(steps, shares, landing)
    landed = landing.land(*way)
    if curves is not None and landed.met:
        targets: dict[str, float] = {each.what: each.target(counter(model, each.what)[1]) for each in budgets}
        allocation = Allocation(analysis, model, steps.groups, fixed, targets, left)
        landed = _solved(allocation, steps, curves, landing, landed)
    cuts = fixed | steps.cuts(landed.gone)
    if landed.met:
        return Choice(cuts, forced=landed.forced and f"no smaller step than {landed.forced} was legal")
    kept = Kept(analysis, cuts)
    short = [budget for budget, beyond in zip(budgets, over(kept), strict=True) if beyond < 0]
    return Choice(cuts, {budget: budget.share(model, kept, rules.added(kept)) for budget in short})


def _solved(
    allocation: Allocation,
    steps: Steps,
    curves: Curves,
    landing: Landing,
    greedy: Landed,
) -> Landed:
    """The widths that lose least, where they lose less than steps in order do."""
    groups = steps.groups
    widths = [
        Widths(
            each.group, removed := np.concatenate([[0], each.removed]), curves[groups[each.group].id][removed]
        )
        for each in steps.own
        if each.removed.size
    ]

    def lost(gone: Gone) -> float:
        return float(sum(curves[groups[number].id][count] for number, count in gone.items()))

    found = allocation.solve(widths)
    if found is None or lost(greedy.gone) <= lost(found):
        return greedy
    while landing.over(steps.cuts(found)) > SLACK:
        finer = [
            found | {each.group: int(count)}
            for ladders in steps.levels()
            for each in ladders
            for count in each.removed[each.removed < found.get(each.group, 0)]
        ]
        fitting = [each for each in finer if landing.over(steps.cuts(each)) >= 0]
        if not fitting:
            break
        found = min(fitting, key=lost)
    return Landed(found)


Way = tuple[Gone, Gone | None]
"""A cut that misses a budget, and the next one, which meets it; None where there is no next one."""


def _way(steps: Steps, rules: Rules, landing: Landing) -> Way:
    """In the order of scores."""
    order = in_order(steps.own, steps.groups, rules.scope)
    found = take_until(order, steps.groups, lambda kept: landing.over(dict(kept)) >= 0)
    if found is None:
        return order.gone(len(order)), None
    return order.gone(max(0, found - 1)), order.gone(found)


def _way_by(steps: Steps, shares: Shares, landing: Landing) -> Way:
    """By the share of each Group that a method gives."""

    def gone(share: float) -> Gone:
        kept = _local(steps.groups, steps.own, shares(share))
        return {
            number: group.size - len(kept[group.id])
            for number, group in enumerate(steps.groups)
            if len(kept.get(group.id, range(group.size))) < group.size
        }

    found = least_share(lambda share: landing.over(steps.cuts(gone(share))) >= 0)
    if found is None:
        return gone(MOST), None
    return gone(found[0]), gone(found[1])


def _left(analysis: Analysis, fixed: Cuts, count: Callable[[Kept], int]) -> Callable[[Cuts], int]:
    """Counts what is left after a cut on top of a fixed one."""
    return lambda cuts: count(Kept(analysis, fixed | cuts))


def _within(order: Order, groups: Sequence[Group], room: CostRoom) -> int:
    """How many steps a share of a cost allows."""
    over = take_until(order, groups, lambda kept: not room.holds(dict(kept)))
    return len(order) if over is None else over - 1
