"""From scores to kept Units: some Groups by ratios of their own, the rest in one order, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.prune.allocate import Cost, Cuts, Scores, counter, least_share
from graphprune.prune.select import Ladder, Order, Scope, alignment, in_order, ladder, take_ratio, take_until

Shares = Callable[[float], Mapping[str, float]]
"""Share to remove of each Group, at a share to remove of all of them."""


@dataclass(frozen=True)
class Budget:
    """What to reach: a share of Units removed, or of the model's params or macs kept."""

    what: Literal["ratio", "params", "macs"]
    share: float

    def met(self, cost: CostModel, kept: Kept, added: int = 0) -> bool:
        """Whether a cut, and parameters that its repair adds, leave no more than this share of the model."""
        count, dense = counter(cost, self.what)
        return count(kept) + (added if self.what == "params" else 0) <= self.share * dense

    def part(self, done: float) -> Budget:
        """The budget of a first part of the way to this one."""
        share = self.share * done if self.what == "ratio" else 1 - (1 - self.share) * done
        return Budget(self.what, share)


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


@dataclass(frozen=True)
class Choice:
    """Kept Units of the Groups that shrink; `missed`: the least share in reach, where a budget is not."""

    cuts: Cuts
    missed: float | None = None


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
    if shares is not None:
        return _by_shares(groups, free, fixed, budget, rules, analysis, cost, shares)
    return _by_order(groups, free, fixed, budget, rules, analysis, cost)


def _local(groups: Sequence[Group], ladders: Sequence[Ladder], ratios: Mapping[str, float]) -> Cuts:
    """Every Group by its own ratio."""
    cuts: Cuts = {}
    for steps in ladders:
        ratio = ratios.get(groups[steps.group].id)
        if ratio is not None:
            order = in_order([steps], groups, "local")
            cuts |= order.kept(take_ratio(order, groups, ratio, "local"), groups)
    return cuts


def _by_order(
    groups: tuple[Group, ...],
    ladders: Sequence[Ladder],
    fixed: Cuts,
    budget: Budget,
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
) -> Choice:
    order = in_order(ladders, groups, rules.scope)
    if budget.what == "ratio":
        rest = tuple(group for group in groups if group.id not in rules.own)
        if rules.counted != "unit" and rules.scope == "global":
            left = _left(analysis, fixed, counter(cost(), rules.counted)[0])
            taken = _within(order, groups, rest, budget.share, left)
        else:
            pool = rest if rules.scope == "global" else groups
            taken = take_ratio(order, pool, budget.share, rules.scope)
        return Choice(fixed | order.kept(taken, groups))
    model = cost()
    count, target = _counted(model, budget, rules)
    found = take_until(order, groups, lambda kept: count(Kept(analysis, fixed | dict(kept))) <= target)
    cuts = fixed | order.kept(len(order) if found is None else found, groups)
    return Choice(
        cuts,
        None if found is not None else count(Kept(analysis, cuts)) / max(1, counter(model, budget.what)[1]),
    )


def _left(analysis: Analysis, fixed: Cuts, count: Callable[[Kept], int]) -> Callable[[Cuts], int]:
    """Counts what is left after a cut on top of a fixed one."""
    return lambda cuts: count(Kept(analysis, fixed | cuts))


def _within(
    order: Order, groups: Sequence[Group], rest: Sequence[Group], ratio: float, left: Callable[[Cuts], int]
) -> int:
    """How many steps a share of a cost allows; weights that two Groups shrink, as heads do, count once."""
    most = left({})
    allowed = ratio * (most - left({group.id: () for group in rest})) * (1 + 1e-9)
    over = take_until(order, groups, lambda kept: most - left(dict(kept)) > allowed)
    return len(order) if over is None else over - 1


def _counted(model: CostModel, budget: Budget, rules: Rules) -> tuple[Callable[[Kept], int], int]:
    """What is left after a cut and its repair, and what may be."""
    count, dense = counter(model, budget.what)
    target = int(np.floor(budget.share * dense))
    if budget.what != "params":
        return count, target
    return lambda kept: count(kept) + rules.added(kept), target


def _by_shares(
    groups: tuple[Group, ...],
    ladders: Sequence[Ladder],
    fixed: Cuts,
    budget: Budget,
    rules: Rules,
    analysis: Analysis,
    cost: Callable[[], CostModel],
    shares: Shares,
) -> Choice:
    if budget.what == "ratio":
        return Choice(fixed | _local(groups, ladders, shares(budget.share)))
    model = cost()
    count, target = _counted(model, budget, rules)

    def left(share: float) -> int:
        return count(Kept(analysis, fixed | _local(groups, ladders, shares(share))))

    found = least_share(lambda share: left(share) <= target)
    most = 1 - 1e-6 if found is None else found
    cuts = fixed | _local(groups, ladders, shares(most))
    return Choice(cuts, None if found is not None else left(most) / max(1, counter(model, budget.what)[1]))
