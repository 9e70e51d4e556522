"""What a structured pass does with a model: score, choose and repair, in one or several rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Group, analyse
from graphprune.axes.cost import Clock, CostModel
from graphprune.axes.kept import Kept
from graphprune.axes.kinds import Kind
from graphprune.errors import ArgumentError, PromiseError
from graphprune.ir.arrays import Scores
from graphprune.ir.weights import stored_bytes
from graphprune.pipeline.built import built
from graphprune.pipeline.clocks import clock_of_groups, ladders
from graphprune.pipeline.comparing import Comparison
from graphprune.pipeline.method import Method
from graphprune.pipeline.passes import Context
from graphprune.pipeline.probing import Probing, unprobed
from graphprune.pipeline.repairing import added_by, repaired, settled, tell
from graphprune.prune.allocate import Cuts, counter, joint_costs, per_cost
from graphprune.prune.choose import Budget, Choice, Rules, Shares, choose
from graphprune.prune.curves import Curves, local_curves, probed_curves
from graphprune.prune.plan import Plan
from graphprune.prune.select import Align

if TYPE_CHECKING:
    from graphprune.prune.repair import Repaired

AGAIN = 3
"""How often a choice is made anew at most, where its result takes more bytes than was foreseen."""


@dataclass(frozen=True)
class Scored:
    """Scores per Unit of every Group: by which Units go, per what they cost, and as losses."""

    order: dict[str, Scores]
    losses: dict[str, Scores]


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
        item = self.item
        clock = clock_of_groups(item, self.analysis, self.groups, self.context, self.align, item.min_keep)
        return CostModel(self.analysis, self.context.counted, clock)

    @property
    def align(self) -> Align:
        """Which multiples kept widths are."""
        return self.context.aligned(self.item.align)

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """What to reach of the model as given."""
        given = self.context.given
        return tuple(replace(asked, whole=given.get(asked.what)) for asked in self.item.budgets())

    @cached_property
    def rules(self) -> Rules:
        """Legal steps."""
        item = self.item
        own = item.own_ratios(self.groups)
        added = added_by(self.analysis, self.how, item.driver)
        return Rules(item.scope, self.align, item.min_keep, own, item.counted, added)

    @cached_property
    def shares(self) -> Shares | None:
        """What the method gives to each Group."""
        return self.item.shares(self.analysis, self.groups, self.context)

    def plan(self) -> Plan:
        """All rounds; each scores what the rounds before left of the model."""
        now, cuts = self.analysis, dict[str, tuple[int, ...]]()
        for done in range(1, self.item.rounds):
            scored = self._scored(now, cuts)
            cuts = self._chosen(scored, self._curves(now, scored), done / self.item.rounds).cuts
            now = _twin(self.analysis, cuts, self._repaired(cuts))
        scored = self._scored(now, cuts)
        choice, made = self._last(scored, self._curves(now, scored, last=True))
        self._require(choice)
        if self._clock is not None:
            self.context.foretell(self._clock.left(Kept(self.analysis, choice.cuts)))
        tell(made, self.how, self.context)
        return self._planned(choice.cuts, scored, made)

    def _planned(self, cuts: Cuts, scored: Scored, made: Repaired) -> Plan:
        return Plan(
            options=self.item.options(),
            cuts=cuts,
            widths={group.id: group.size for group in self.groups if group.id in cuts},
            scores={name: tuple(scored.order[name].tolist()) for name in cuts},
            replaced=made.replaced,
            biases=made.biases,
        )

    def _last(self, scored: Scored, curves: Curves | None) -> tuple[Choice, Repaired]:
        """The choice and its repair; chosen again where the constants of exact edits take too many bytes."""
        choice = self._chosen(scored, curves, 1)
        made = self._repaired(choice.cuts)
        asked = [budget for budget in self.budgets if budget.what == "bytes" and budget not in choice.missed]
        for budget in AGAIN * asked:
            size = stored_bytes(built(self.analysis, self._planned(choice.cuts, scored, made)))
            if size <= budget.target(self.cost.dense_bytes):
                break
            kept = Kept(self.analysis, choice.cuts)
            foreseen = self.cost.bytes(kept) + budget.grown(self.rules.added(kept))
            self.rules = replace(self.rules, surplus=size - foreseen)
            choice = self._chosen(scored, curves, 1)
            made = self._repaired(choice.cuts)
        return choice, made

    def _scored(self, now: Analysis, cuts: Cuts) -> Scored:
        """Scores on the model as it is now; what is gone already comes first."""
        from graphprune.prune.scoring import score

        item, context = self.item, self.context
        groups = self.groups if now is self.analysis else tuple(now.group(g.id) for g in self.groups)
        what = f"criterion={item.criterion}"
        scoring = item.scoring(context.seed)
        if scoring.criterion.measures and not scoring.criterion.optional:
            context.require_calibration(what)
        collect = partial(context.collect, now.model, what=what) if context.calibration else None
        gradients = scoring.criterion.gradients
        differentiate = context.differentiation(what).of_groups if gradients else None
        find = partial(score, now, groups, scoring, self.kinds, collect, differentiate=differentiate)
        sizes = {group.id: group.size for group in groups}
        about = (scoring.name, scoring.normaliser, now.options, self.kinds, sizes)
        own = scoring.is_ours and not gradients
        found = context.scores(now.model, about if own else None, lambda warn: find(warn=warn))
        order = found
        if item.counts != ("unit",):
            order = per_cost(found, joint_costs(self.analysis, self.cost, self.groups, item.counts))
        return Scored(behind(order, cuts), found)

    def _chosen(self, scored: Scored, curves: Curves | None, done: float) -> Choice:
        budgets = self.budgets if done == 1 else tuple(self._part(each, done) for each in self.budgets)
        by = (self.rules, self.analysis, lambda: self.cost, self.shares, curves)
        return choose(self.groups, scored.order, budgets, *by)

    def _curves(self, now: Analysis, scored: Scored, last: bool = False) -> Curves | None:
        """What the outputs lose at every width, where that decides how much each Group gives."""
        groups = tuple(now.group(group.id) for group in self.groups)
        local = local_curves(groups, scored.losses, scored.order)
        blind = None if self._clock is None else local  # which widths pay, scores do not know
        if not self._asks_outputs:
            return blind
        steps = ladders(groups, scored.order, self.align, self.item.min_keep)
        probing = Probing(now, steps, groups, self.how, self.context)
        found = probing.probes(self.cost)
        count = sum(map(len, found.values()))
        self.context.note(f"allocate=output: {count} cuts of {len(found)} of {len(groups)} groups were tried")
        probed = probed_curves(local, found)
        return self._better(scored, probed, blind, probing) if last else probed

    def _better(
        self, scored: Scored, probed: Curves, blind: Curves | None, probing: Probing
    ) -> Curves | None:
        """The curves by which outputs lose less once the cut is made and repaired: all layers at once."""
        cuts = [self._chosen(scored, curves, 1).cuts for curves in (probed, blind)]
        if cuts[0] == cuts[1]:
            return probed
        held, rest = probing.split
        one, two = Comparison(self.item, self.analysis, self.context, held, rest).losses(cuts, self.how)
        taken = "outputs" if one <= two else "scores"
        self.context.note(
            f"allocate=output: {taken} decide; on samples that repair did not see outputs lose {one:.3g} "
            f"as they say themselves, {two:.3g} as scores say"
        )
        return probed if one <= two else blind

    @cached_property
    def _asks_outputs(self) -> bool:
        """Whether outputs say how much each Group gives.

        Raises:
            ArgumentError: they are to, and cannot.
        """
        if self.item.allocate == "local":
            return False
        why = self.item.not_by_outputs or unprobed(self.context, self.analysis)
        if self.item.allocate == "output" and why:
            raise ArgumentError(f"allocate=output {why}", "use allocate=local")
        return not why

    @property
    def _clock(self) -> Clock | None:
        """What counts time, if a budget asks for it."""
        return self.cost.clock if any(budget.what == "latency" for budget in self.budgets) else None

    def _part(self, budget: Budget, done: float) -> Budget:
        """A first part of the way to a budget."""
        return budget.part(done, 0 if budget.what == "ratio" else counter(self.cost, budget.what)[1])

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
        item = self.item
        if choice.missed:
            self.context.fall_short(*_out_of_reach(item, choice.missed))
        if choice.forced:
            self.context.forced(choice.forced)
        if any(len(choice.cuts.get(g.id, range(g.size))) < g.size for g in self.groups):
            return
        named = " and ".join(map(str, self.budgets))
        if self.budgets[0].what != "ratio" and not choice.missed and any(b.asked != 1 for b in self.budgets):
            verb = "is" if len(self.budgets) == 1 else "are"
            before = "before this pass" if self._clock is None else "by lowering alone"
            self.context.note(f"{named} {verb} met {before}; it removes nothing")
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


def _out_of_reach(item: Method, missed: Mapping[Budget, float]) -> tuple[str, str]:
    lines = [
        f"{budget} cannot be met: with min-keep={item.min_keep:g} "
        f"and align={item.align} at least {least:.3f} of the {budget.what} stay"
        for budget, least in missed.items()
    ]
    percent = next((budget for budget in missed if 1 < budget.asked <= 100), None)
    if percent is not None:
        return "\n".join(lines), f"did you mean {percent.what}={percent.asked / 100:g}, a share?"
    hint = "lower min-keep, set align=1, or see `graphprune inspect` for what is pinned and why"
    return "\n".join(lines), hint


def _too_small(item: Method, groups: tuple[Group, ...]) -> tuple[str, str]:
    widths = ", ".join(f"{g.id} ({g.size})" for g in groups[:8])
    return (
        f"nothing was removed: no Group allows a step this small with align={item.align} "
        f"and min-keep={item.min_keep:g}; "
        f"widths: {widths}{', ...' if len(groups) > 8 else ''}",
        "raise the ratio, or set align=1",
    )
