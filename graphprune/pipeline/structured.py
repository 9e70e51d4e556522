"""Base of the passes that remove whole Units: find, score, choose, repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.axes import Analysis, Group
from graphprune.axes.kinds import chosen, kinds
from graphprune.errors import PromiseError
from graphprune.pipeline.decision import Decision
from graphprune.pipeline.globs import filtered, group_names, require_groups
from graphprune.pipeline.method import Method
from graphprune.pipeline.passes import Context, Subject, Turn
from graphprune.prune.plan import Plan

if TYPE_CHECKING:
    from graphprune.axes.kinds import Kind
    from graphprune.pipeline.ratios import Ratio

DEFAULT_RATIO = 0.3


@dataclass(frozen=True)
class Structured(Method):
    """Removes whole Units (channels, heads, hidden widths) and everything that depends on them.

    A method is a preset of its stages. Its `ratio` counts Units, or what they cost.
    """

    turn: ClassVar[Turn | None] = "structure"

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find, then score, choose and repair as often as there are rounds."""
        analysis = subject.analysis
        found = kinds(analysis)
        groups = self._groups(analysis, found)
        if self.ratio == 0 and not self.ratios:
            return Plan(options=self.options())
        if not groups:
            raise PromiseError(*_nothing(analysis, bool(self.only or self.ignore)))
        return Decision(self, analysis, found, groups, self.prepared(subject, context)).plan()

    def ratio_taken(self, subject: Subject, plan: Plan, context: Context) -> Ratio | None:
        """Of the Groups that share the ratio: those that the pass may cut and that have none of their own."""
        from graphprune.axes.cost import CostModel
        from graphprune.axes.kept import Kept
        from graphprune.pipeline.ratios import Cuts, of_cost, of_units
        from graphprune.prune.allocate import counter

        budget, analysis = self.budgets()[0], subject.analysis
        if budget.what != "ratio" or not plan.cuts:
            return None
        mine = self._groups(analysis, kinds(analysis))
        own = self.own_ratios(mine)
        groups = [group for group in mine if group.id not in own]
        if self.counted == "unit" or self.scope != "global":
            return of_units(budget.asked, groups, plan.cuts)
        count, _ = counter(CostModel(analysis, context.counted), self.counted)

        def left(cuts: Cuts) -> int:
            return count(Kept(analysis, cuts))

        return of_cost(budget.asked, groups, plan.cuts, left, f"{self.counted} of these Units")

    def _groups(self, analysis: Analysis, found: Mapping[str, Kind]) -> tuple[Group, ...]:
        require_groups(analysis.groups, (*self.only, *self.ignore, *self.ratios))
        mine = [g for g in analysis.prunable if chosen(found[g.id], self.kinds)]
        if analysis.prunable and not mine:
            there = ", ".join(sorted({found[g.id] for g in analysis.prunable}))
            raise PromiseError(
                f"nothing to prune: no Group is of the kind {', '.join(self.kinds)}", f"there are: {there}"
            )
        return self.candidates(analysis, filtered(mine, group_names, self.only, self.ignore), found)

    def candidates(
        self, analysis: Analysis, groups: tuple[Group, ...], found: Mapping[str, Kind]
    ) -> tuple[Group, ...]:
        """Which of the Groups that were asked for the method may cut; `found` is what their Units are."""
        return groups


def _nothing(analysis: Analysis, filtered: bool) -> tuple[str, str]:
    pinned = [group for group in analysis.groups if group.pin is not None]
    if filtered and analysis.prunable:
        return "nothing to prune: only= and ignore= leave no Group", "`graphprune inspect` lists the Groups"
    if not analysis.groups:
        return "nothing to prune: the model has no weights that a known operator reads", ""
    lines = [f"  {g.id} ({g.size} units): {g.pin.reason} [{g.pin.node}]" for g in pinned[:20] if g.pin]
    more = f"\n  ... and {len(pinned) - 20} more" if len(pinned) > 20 else ""
    unblock = next((g.pin.unblock for g in pinned if g.pin and g.pin.unblock), "")
    return "nothing to prune: every Group is pinned\n" + "\n".join(lines) + more, unblock
