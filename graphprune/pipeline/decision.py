"""What a structured pass does with a model: score, choose and repair, in one or several rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Group, analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kinds import Kind
from graphprune.errors import PromiseError
from graphprune.ir.arrays import Scores
from graphprune.pipeline.method import Method
from graphprune.pipeline.passes import Context
from graphprune.pipeline.repairing import added_by, repaired, settled, tell
from graphprune.prune.allocate import Cuts, costs, counter, per_cost
from graphprune.prune.choose import Budget, Choice, Rules, Shares, choose
from graphprune.prune.plan import Plan

if TYPE_CHECKING:
    from graphprune.prune.repair import Repaired


@dataclass
class Decision:
    """One structured pass on one model, in progress.

    Args:
        item: the pass.
        analysis: of the dense model.
        kinds: what the Units of each Group are, by its id.
        groups: those that may shrink.
        context: calibration data and settings.
    """

    item: Method
    analysis: Analysis
    kinds: Mapping[str, Kind]
    groups: tuple[Group, ...]
    context: Context

    @cached_property
    def cost(self) -> CostModel:
        """Counts the model."""
        return CostModel(self.analysis, self.context.shapes)

    @cached_property
    def budget(self) -> Budget:
        """What to reach of the model as given."""
        asked = self.item.budget()
        return replace(asked, whole=self.context.given.get(asked.what))

    @cached_property
    def rules(self) -> Rules:
        """Legal steps."""
        item = self.item
        own = item.own_ratios(self.groups)
        added = added_by(self.analysis, self.how, item.driver)
        return Rules(item.scope, item.align, item.min_keep, own, item.counted, added)

    @cached_property
    def shares(self) -> Shares | None:
        """What the method gives to each Group."""
        return self.item.shares(self.analysis, self.groups, self.context)

    def plan(self) -> Plan:
        """All rounds; each scores what the rounds before left of the model."""
        now, cuts = self.analysis, dict[str, tuple[int, ...]]()
        for done in range(1, self.item.rounds + 1):
            scores = self._scores(now, cuts)
            choice = self._chosen(scores, done / self.item.rounds)
            cuts = choice.cuts
            made = self._repaired(cuts)
            if done < self.item.rounds:
                now = _twin(self.analysis, cuts, made)
        self._require(choice)
        tell(made, self.how, self.context)
        return Plan(
            options=self.item.options(),
            cuts=cuts,
            widths={group.id: group.size for group in self.groups if group.id in cuts},
            scores={name: tuple(scores[name].tolist()) for name in cuts},
            replaced=made.replaced,
            biases=made.biases,
        )

    def _scores(self, now: Analysis, cuts: Cuts) -> dict[str, Scores]:
        """Scores on the model as it is now; what is gone already comes first."""
        from graphprune.prune.scoring import score

        item, context = self.item, self.context
        groups = self.groups if now is self.analysis else tuple(now.group(g.id) for g in self.groups)
        what = f"criterion={item.criterion}"
        scoring = item.scoring(context.seed)
        if scoring.criterion.measures and not scoring.criterion.optional:
            context.require_calibration(what)
        collect = partial(context.collect, now.model, what=what) if context.calibration else None
        found = score(now, groups, scoring, self.kinds, collect, context.warn)
        if item.counts != "unit":
            found = per_cost(found, costs(self.analysis, self.cost, self.groups, item.counts))
        return behind(found, cuts)

    def _chosen(self, scores: Mapping[str, Scores], done: float) -> Choice:
        budget = self.budget
        if done < 1:
            dense = 0 if budget.what == "ratio" else counter(self.cost, budget.what)[1]
            budget = budget.part(done, dense)
        return choose(self.groups, scores, budget, self.rules, self.analysis, lambda: self.cost, self.shares)

    @cached_property
    def how(self) -> str:
        """The repair that is carried out."""
        return settled(self.item.repair, self.context)

    def _repaired(self, cuts: Cuts) -> Repaired:
        """New weights and biases that make up for a cut."""
        item = self.item
        return repaired(
            self.analysis, cuts, self.how, self.context, driver=item.driver, refresh=item.refreshes
        )

    def _require(self, choice: Choice) -> None:
        """Something was removed, and enough."""
        item, budget = self.item, self.budget
        if choice.missed is not None:
            self.context.fall_short(
                f"{budget.what}={budget.share:g} cannot be met: with min-keep={item.min_keep:g} "
                f"and align={item.align} at least {choice.missed:.3f} of the {budget.what} stay",
                "lower min-keep, set align=1, or see `graphprune inspect` for what is pinned and why",
            )
        if choice.forced:
            self.context.forced(choice.forced)
        if any(len(choice.cuts.get(g.id, range(g.size))) < g.size for g in self.groups):
            return
        if budget.what != "ratio" and choice.missed is None and budget.share < 1:
            self.context.note(f"{budget.what}={budget.share:g} is met before this pass; it removes nothing")
            return
        raise PromiseError(*_too_small(item, self.groups))


def behind(scores: Mapping[str, Scores], cuts: Cuts) -> dict[str, Scores]:
    """Scores in which Units that are gone already come first, far below all others."""
    if not cuts:
        return dict(scores)
    least = min(float(values.min()) for values in scores.values())
    span = max(float(values.max()) for values in scores.values()) - least
    found = {}
    for name, values in scores.items():
        gone = np.ones(len(values), bool)
        gone[list(cuts.get(name, range(len(values))))] = False
        found[name] = np.where(gone, least - 1e3 * (span + 1), values)
    return found


def _twin(analysis: Analysis, cuts: Cuts, made: Repaired) -> Analysis:
    """The dense model with what is gone set to zero and the rest repaired, analysed anew."""
    from graphprune.prune.bias import with_biases
    from graphprune.prune.zeroed import zeroed

    model = analysis.model.clone()
    for name, array in zeroed(analysis, cuts, made.replaced).items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return analyse(with_biases(model, made.biases), analysis.options)


def _too_small(item: Method, groups: tuple[Group, ...]) -> tuple[str, str]:
    widths = ", ".join(f"{g.id} ({g.size})" for g in groups[:8])
    return (
        f"nothing was removed: no Group allows a step this small with align={item.align} "
        f"and min-keep={item.min_keep:g}; "
        f"widths: {widths}{', ...' if len(groups) > 8 else ''}",
        "raise the ratio, or set align=1",
    )
