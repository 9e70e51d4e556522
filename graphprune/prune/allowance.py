"""PAGCP: how far each Group may shrink before the outputs suffer more than an allowance (Ye et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.errors import ArgumentError
from graphprune.prune.divergence import Judge, Metric
from graphprune.prune.finer import SLACK
from graphprune.prune.gates import Candidates, Gated
from graphprune.prune.select import Ladder
from graphprune.runtime.session import Feeds

Cuts = Mapping[str, tuple[int, ...]]
Losses = Mapping[str, float]
PROBE = 0.3
"""The share of a Group by whose cost Groups are ordered."""
ROUNDING = 1e-9
RATIOS = np.arange(1, 20) / 20
"""Shares of a Group that are tried: 5 % to 95 %."""


def growth(count: int, first: float, total: float) -> float:
    """The factor l with which allowances grow from Group to Group: prod (1 + first * l^i) = total, i < count.

    Raises:
        ArgumentError: the first allowance alone exceeds the total one.
    """
    if total <= 1 + first:
        raise ArgumentError(f"tau must be more than 1 + delta0 = {1 + first:g}, got {total:g}")
    if count == 1:
        return 1.0
    from scipy.optimize import brentq

    powers = np.arange(count)

    def excess(log_factor: float) -> float:
        with np.errstate(over="ignore"):
            terms = first * np.exp(np.minimum(powers * log_factor, 700.0))
        return float(np.log1p(terms).sum() - np.log(total))

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low *= 2
    while excess(high) < 0:
        high *= 2
    return float(np.exp(brentq(excess, low, high, xtol=1e-14)))


def outputs_behind(
    gates: Gated,
    batches: Sequence[Feeds],
    metric: Metric,
    *,
    timeout: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Callable[[Cuts], Losses]:
    """The loss of every output under a cut: 1 plus its divergence from the dense one."""
    session = Candidates(gates, timeout)
    judge = Judge(gates.analysis.model, batches, session.run, metric, note)

    def losses(cuts: Cuts) -> Losses:
        return {name: 1 + loss for name, loss in judge.losses(partial(session.run, cuts=cuts)).items()}

    return losses


def visited(
    analysis: Analysis, ladders: Sequence[Ladder], groups: Sequence[Group], cost: CostModel, factor: float
) -> list[Ladder]:
    """Groups in the order of visits: those that save most first while allowances shrink, else last."""
    numbers = {group.id: number for number, group in enumerate(analysis.groups)}

    def saved(steps: Ladder) -> int:
        group = groups[steps.group]
        return cost.saved(numbers[group.id], steps.order[int(PROBE * group.size) :].tolist())[1]

    saving = {at: saved(steps) * (-1 if factor <= 1 else 1) for at, steps in enumerate(ladders)}
    return [ladders[at] for at in sorted(saving, key=lambda at: (saving[at], at))]


@dataclass(frozen=True)
class Commit:
    """What one Group gave.

    Attributes:
        kept: its Units that stay.
        loss: by how much the worst loss grew, relative to before.
        saved: multiply-adds that went.
    """

    group: str
    kept: tuple[int, ...]
    loss: float
    saved: int


@dataclass
class Search:
    """The greedy search.

    Args:
        ladders: legal steps of each Group, in the order in which Groups are visited.
        groups: numbered as the ladders say.
        losses: of a candidate, at least 1 each (1 plus the divergence from the dense model).
        macs: multiply-adds of a candidate.
        over: share of the model by which a candidate goes beyond the budget, negative where it misses it;
            the search stops where it does not.
        first: allowance of the first Group.
        factor: from one Group's allowance to the next.
        finer: all legal steps of a Group, then finer ones, for a last step that goes far beyond the budget.
    """

    ladders: Sequence[Ladder]
    groups: Sequence[Group]
    losses: Callable[[Cuts], Losses]
    macs: Callable[[Cuts], int]
    over: Callable[[Cuts], float]
    first: float
    factor: float
    finer: Callable[[Ladder], Iterable[Ladder]] = lambda ladder: ()
    cuts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Commit]:
        """Visits every Group once; a Group that fails its smallest step keeps everything."""
        commits: list[Commit] = []
        allowance, base = self.first, dict(self.losses({}))
        for number, ladder in enumerate(self.ladders):
            progress(number, len(self.ladders))
            found = self._largest(ladder, base, allowance)
            if found is None:
                continue
            kept, losses = found
            group = self.groups[ladder.group].id
            before = self.macs(self.cuts)
            self.cuts[group] = kept
            commits.append(Commit(group, kept, _grown(losses, base), before - self.macs(self.cuts)))
            base = {name: max(base[name], losses[name]) for name in base}
            allowance *= self.factor
            if self.over(self.cuts) >= 0:
                break
        return commits

    def _largest(
        self, ladder: Ladder, base: Losses, allowance: float
    ) -> tuple[tuple[int, ...], Losses] | None:
        """The largest step within the allowance, by bisection: the loss nearly always grows with the step."""
        steps, group = self._steps(ladder), self.groups[ladder.group].id
        best: tuple[tuple[int, ...], Losses] | None = None
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            losses = self.losses({**self.cuts, group: steps[middle]})
            if _grown(losses, base) <= allowance + ROUNDING:
                best, low = (steps[middle], losses), middle + 1
            else:
                high = middle
        if best is None or self._beyond(ladder, best[0]) < 0:
            return best
        smallest = self._smallest(ladder, steps)
        return smallest, self.losses({**self.cuts, group: smallest})

    def _beyond(self, ladder: Ladder, kept: tuple[int, ...]) -> float:
        return self.over({**self.cuts, self.groups[ladder.group].id: kept})

    def _smallest(self, ladder: Ladder, steps: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The smallest step that meets the budget; of finer ones where it leaves the budget far behind."""
        best = next(step for step in steps if self._beyond(ladder, step) >= 0)
        for finer in self.finer(ladder):
            if self._beyond(ladder, best) <= SLACK:
                break
            smaller = (kept for kept in _kept(finer, range(len(finer.removed))) if len(kept) > len(best))
            best = next((kept for kept in smaller if self._beyond(ladder, kept) >= 0), best)
        return best

    def _steps(self, ladder: Ladder) -> list[tuple[int, ...]]:
        size = self.groups[ladder.group].size
        places = np.searchsorted(ladder.removed, RATIOS * size + 1e-9, side="right") - 1
        return _kept(ladder, np.unique(places[places >= 0]).tolist())


def _kept(ladder: Ladder, places: Iterable[int]) -> list[tuple[int, ...]]:
    """The Units that stay after some of the steps."""
    return [tuple(np.sort(ladder.order[ladder.removed[at] :]).tolist()) for at in places]


def _grown(losses: Losses, base: Losses) -> float:
    """Relative growth of the loss that grew most."""
    return max(losses[name] / base[name] for name in base) - 1


def efficient(commits: Sequence[Commit], share: float) -> list[Commit]:
    """The share of the commits that cost the least loss per multiply-add, in the order they were made."""
    count = int(np.ceil(share * len(commits) - 1e-9))
    prices = [commit.loss / max(1, commit.saved) for commit in commits]
    chosen = sorted(range(len(commits)), key=lambda at: (prices[at], at))[:count]
    return [commits[at] for at in sorted(chosen)]
