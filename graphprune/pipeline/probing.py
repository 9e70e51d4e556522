"""Probes: Groups cut and repaired one by one, everything else dense, and what the outputs lose by it.

Losses of layers are relative to what each disturbs, and say nothing of what becomes of the error on its way.
What comes before a cut is the dense model's and is computed once; what is run is what comes behind. Repairs
go by statistics of the dense model, but for Groups under a norm: a cut changes its mean or its spread, hence
all that stays, so what the cut model computes has to be seen. Effort is
fixed before the start and counted in multiply-adds, so that the result does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from graphprune.axes import Analysis, Group
from graphprune.axes.kept import Kept
from graphprune.labels.edits import normed
from graphprune.pipeline.built import built
from graphprune.pipeline.passes import Context
from graphprune.pipeline.prefixes import Prefixes, Suffix, suffix_of
from graphprune.prune.plan import Plan
from graphprune.prune.select import Ladder

if TYPE_CHECKING:
    from graphprune.axes.cost import CostModel
    from graphprune.prune.curves import Probes
    from graphprune.runtime.session import Feeds
    from graphprune.statistics.measures import Statistics

LEAST, MOST = 32, 128
"""Samples on which outputs are compared: as many as leave effort for some steps of every Group, of these.

A quarter of all where that is fewer.
"""
STEPS = 3
"""Steps of every Group that the number of samples leaves effort for."""
FEWEST = 32
"""Of fewer calibration samples none can be spared."""
RUNS = 3
"""Runs over the calibration data that probes may take: as many as obspa takes for one compile."""
SHARES = (0.5, 0.2, 0.9, 0.35, 0.7)
ROUNDING = 1e-9
"""Shares of what a Group may lose that are tried, in rounds."""


@dataclass
class Probing:
    """Probes of one model.

    Args:
        analysis: of the dense model.
        ladders: legal steps of each Group.
        groups: numbered as the ladders say.
        how: the repair.
        context: calibration data and settings.
    """

    analysis: Analysis
    ladders: Sequence[Ladder]
    groups: Sequence[Group]
    how: str
    context: Context

    def probes(self, cost: CostModel) -> Probes:
        """What the outputs lose, Groups that cost most first, as far as the effort goes."""
        from graphprune.prune.loss import Loss
        from graphprune.runtime.session import open_session

        held, _ = self.split
        loss = Loss(self.analysis.model, held, open_session(self.analysis.model, exact=True).run)
        plan = self.planned(cost)
        prefixes = Prefixes(self.analysis.model, loss.batches)
        prefixes.store([self._suffixes[steps.group] for steps, _ in plan])
        found: dict[str, dict[int, float]] = {}
        for at, (steps, count) in enumerate(plan):
            self.context.run.progress(at, len(plan), "probes")
            group = self.groups[steps.group]
            model = built(self.analysis, self._cut(steps.group, sorted(steps.order[count:].tolist())))
            found.setdefault(group.id, {})[count] = loss.lost(
                prefixes.run(model, self._suffixes[steps.group])
            )
        return found

    def planned(self, cost: CostModel) -> list[tuple[Ladder, int]]:
        """Steps that are tried, in their order: as many as the effort is enough for."""
        numbers = {group.id: number for number, group in enumerate(self.analysis.groups)}
        some = [steps for steps in self.ladders if steps.removed.size]
        saved = {
            steps.group: cost.saved(
                numbers[self.groups[steps.group].id], steps.order[steps.removed[-1] :].tolist()
            )
            for steps in some
        }
        first = sorted(
            some, key=lambda steps: (*(-each for each in reversed(saved[steps.group])), steps.group)
        )
        tried = [(steps, _step(steps, share)) for share in SHARES for steps in first]
        every = {(steps.group, count): (steps, count) for steps, count in tried}
        spent = np.cumsum([self._price(group) for group, _ in every])
        return list(every.values())[: int(np.searchsorted(spent, self.effort + ROUNDING, side="right"))]

    @property
    def effort(self) -> float:
        """Runs of the dense model over the samples that outputs are compared on."""
        held, rest = self.split
        return RUNS * _count(rest, self.analysis) / max(1, _count(held, self.analysis))

    def _price(self, number: int) -> float:
        """Runs of the dense model over those samples that a probe of a Group takes, and its repair."""
        held, rest = self.split
        repair = _count(rest, self.analysis) / max(1, _count(held, self.analysis))
        return self._suffixes[number].share * (1 + repair * (number in self._normed))

    @cached_property
    def _normed(self) -> frozenset[int]:
        """Groups whose cut changes what a norm takes from the Units that stay."""
        if self.how == "none":
            return frozenset()
        labels = [label for edit in self.analysis.edits for label in normed(edit)]
        halves = [Kept(self.analysis, {each.id: tuple(range(each.size // 2))}) for each in self.groups]
        return frozenset(at for at, kept in enumerate(halves) if any(kept.touches(label) for label in labels))

    @cached_property
    def _suffixes(self) -> list[Suffix]:
        """What a cut of each Group changes."""
        from graphprune.axes.assumed import concrete_sizes
        from graphprune.axes.cost import node_terms

        model = self.analysis.model
        sizes = concrete_sizes(model, self.context.counted, self.analysis.sizes)
        terms = {node: node_terms(node, sizes) for node in model.graph}
        macs = {node: None if each is None else sum(t.macs for t in each) for node, each in terms.items()}
        return [suffix_of(model, self.analysis.group(group.id), macs) for group in self.groups]

    @cached_property
    def split(self) -> tuple[tuple[Feeds, ...], tuple[Feeds, ...]]:
        """Samples to compare outputs on, and those that probes are repaired on."""
        from graphprune.runtime.holding import divide

        model, batches = self.analysis.model, self.context.calibration
        total = _count(batches, self.analysis)
        steps = STEPS * sum(suffix.share for suffix in self._suffixes)
        number = min(max(LEAST, int(RUNS * total / max(steps, 1.0))), MOST, total // 4)
        held, rest = divide(batches, model, number, self.context.seed)
        return tuple(held), tuple(rest)

    @cached_property
    def _statistics(self) -> Statistics:
        from graphprune.prune.repair import wanted_grams
        from graphprune.statistics.collect import collect

        return collect(self.analysis.model, self.split[1], wanted_grams(self.analysis), run=self.context.run)

    def _cut(self, number: int, kept: Sequence[int]) -> Plan:
        """One Group cut and repaired."""
        from graphprune.prune.repair import Change, Repaired, Way, repair

        group = self.groups[number]
        cuts: Mapping[str, tuple[int, ...]] = {group.id: tuple(kept)}
        change, run, made = Change(cuts, (), {}), self.context.run, Repaired({}, {})
        if number in self._normed:
            way = Way(self.how, "sequential", refresh=False)
            made = repair(self.analysis, change, way, batches=self.split[1], run=run)
        elif self.how != "none":
            way = Way(self.how, "oneshot", refresh=False)
            made = repair(self.analysis, change, way, statistics=self._statistics, run=run)
        widths = {group.id: group.size}
        return Plan(self.analysis.options, cuts, widths, replaced=made.replaced, biases=made.biases)


def _step(steps: Ladder, share: float) -> int:
    """The legal step nearest to a share of what may go."""
    wanted = share * steps.removed[-1]
    return int(min(steps.removed.tolist(), key=lambda count: (abs(count - wanted), count)))


def _count(batches: Sequence[Feeds], analysis: Analysis) -> int:
    from graphprune.runtime.holding import count

    return count(batches, analysis.model)


def unprobed(context: Context, analysis: Analysis) -> str:
    """Why outputs of a model cannot be asked; empty where they can."""
    from graphprune.prune.loss import told

    if _count(context.calibration, analysis) < FEWEST:
        return f"needs {FEWEST} calibration samples"
    return "" if told(analysis.model) else "needs an output of floating numbers"
