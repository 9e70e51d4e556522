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
from graphprune.prune.finer import CostRoom, Gone, Landing, Steps, cost_room, fill, room
from graphprune.prune.select import Ladder, Order, Scope, alignment, in_order, ladder, take_ratio, take_until

Shares = Callable[[float], Mapping[str, float]]
"""Share to remove of each Group, at a share to remove of all of them."""


@dataclass(frozen=True)
class Budget:
    """What to reach: a share of Units removed, or of the params or macs of a whole model kept.

    Attributes:
        whole: what params or macs are a share of; None: the model at hand.
    """

    what: Literal["ratio", "params", "macs"]
    share: float
    whole: int | None = None

    def target(self, dense: int) -> int:
        """What may be left of the model at hand, which has `dense` of it."""
        return int(np.floor(self.share * (dense if self.whole is None else self.whole)))

    def over(self, cost: CostModel, kept: Kept, added: int = 0) -> float:
        """Share of the model by which a cut and its repair go beyond this; negative where they miss it."""
        count, dense = counter(cost, self.what)
        left = count(kept) + (added if self.what == "params" else 0)
        return (self.target(dense) - left) / max(1, dense)

    def part(self, done: float, dense: int) -> Budget:
        """The budget of a first part of the way to this one, from a model that has `dense` of it."""
        if self.what == "ratio":
            return replace(self, share=self.share * done)
        start = 1.0 if self.whole is None else dense / max(1, self.whole)
        return replace(self, share=start - (start - self.share) * done)


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
    """

    scope: Scope
    align: int | Literal["auto"]
    min_keep: float
    own: Mapping[str, float] = field(default_factory=dict)
    counted: Cost = "unit"
    added: Callable[[Kept], int] = lambda kept: 0

    @property
    def counts(self) -> Cost:
        """What a ratio is a share of: Units, where they do not all compete."""
        return self.counted if self.scope == "global" else "unit"


@dataclass(frozen=True)
class Choice:
    """Kept Units of the Groups that shrink.

    Attributes:
        missed: the least share in reach, where a budget is not.
        forced: why a budget is left far behind, or a ratio not used up, in words.
    """

    cuts: Cuts
    missed: float | None = None
    forced: str = ""


def choose(
    groups: tuple[Group, ...],
    scores: Mapping[str, Scores],
    budget: Budget,
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
    shares: Shares | None = None,
) -> Choice:
    """Removes the least salient Units within a budget.

    Args:
        groups: Groups that may shrink.
        scores: one number per Unit of each; higher = keep.
        budget: what to reach.
        rules: legal steps.
        analysis: of the model.
        cost: counts the model; only asked for where the budget is a share of it.
        shares: how much each Group gives, where the scores do not decide it.
    """
    ladders = [
        ladder(number, group, scores[group.id], alignment(group, rules.align), rules.min_keep)
        for number, group in enumerate(groups)
    ]
    fixed = _local(groups, ladders, rules.own)
    free = [steps for steps in ladders if groups[steps.group].id not in rules.own]
    steps = Steps(groups, scores, free, rules.align, rules.min_keep)
    if budget.what == "ratio":
        return _by_ratio(steps, fixed, budget, rules, analysis, cost, shares)
    return _by_cost(steps, fixed, budget, rules, analysis, cost(), shares)


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
    budget: Budget,
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
    shares: Shares | None,
) -> Choice:
    groups = steps.groups
    if shares is not None:
        forced = "every Group gives the share that the method says, in whole steps"
        return Choice(fixed | _local(groups, steps.own, shares(budget.share)), forced=forced)
    order = in_order(steps.own, groups, rules.scope)
    if rules.counts == "unit":
        pool = [group for group in groups if group.id not in rules.own] if rules.scope == "global" else groups
        taken = order.gone(take_ratio(order, pool, budget.share, rules.scope))
        numbers = [ladder.group for ladder in steps.own]
        landed = fill(steps, room(groups, numbers, budget.share, rules.scope), taken)
    else:
        left = _left(analysis, fixed, counter(cost(), rules.counts)[0])
        allowed = cost_room(steps, left, budget.share)
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
    budget: Budget,
    rules: Rules,
    analysis: Analysis,
    model: CostModel,
    shares: Shares | None,
) -> Choice:
    count, dense = _counted(model, budget, rules), counter(model, budget.what)[1]
    landing = Landing(steps, _left(analysis, fixed, count), budget.target(dense), dense)
    way = _way(steps, rules, landing) if shares is None else _way_by(steps, shares, landing)
    landed = landing.land(*way)
    cuts = fixed | steps.cuts(landed.gone)
    if landed.met:
        return Choice(cuts, forced=landed.forced and f"no smaller step than {landed.forced} was legal")
    whole = dense if budget.whole is None else budget.whole
    return Choice(cuts, min(dense, count(Kept(analysis, cuts))) / max(1, whole))


Way = tuple[Gone, Gone | None]
"""A cut that misses a budget, and the next one, which meets it; None where there is no next one."""


def _way(steps: Steps, rules: Rules, landing: Landing) -> Way:
    """In the order of scores."""
    order = in_order(steps.own, steps.groups, rules.scope)
    found = take_until(order, steps.groups, lambda kept: landing.left(dict(kept)) <= landing.target)
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

    found = least_share(lambda share: landing.left(steps.cuts(gone(share))) <= landing.target)
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


def _counted(model: CostModel, budget: Budget, rules: Rules) -> Callable[[Kept], int]:
    """What is left after a cut and its repair."""
    count, _ = counter(model, budget.what)
    if budget.what != "params":
        return count
    return lambda kept: count(kept) + rules.added(kept)
