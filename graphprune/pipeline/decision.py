"""What a structured pass does with a model: score, choose and repair, in one or several rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Group, analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.axes.labels import Label
from graphprune.errors import PromiseError
from graphprune.pipeline.passes import Context
from graphprune.prune.allocate import Cuts, Scores, costs, per_cost
from graphprune.prune.choose import Choice, Rules, Shares, choose
from graphprune.prune.kinds import Kind
from graphprune.prune.plan import Plan
from graphprune.statistics.sites import Site, find_sites

if TYPE_CHECKING:
    from graphprune.pipeline.structured import Structured
    from graphprune.prune.repair import Repaired
    from graphprune.prune.scoring import Scoring

AUTO = "refit"
"""What repair=auto does where there is calibration data."""


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

    item: Structured
    analysis: Analysis
    kinds: Mapping[str, Kind]
    groups: tuple[Group, ...]
    context: Context

    @cached_property
    def cost(self) -> CostModel:
        """Counts the model."""
        return CostModel(self.analysis, self.context.shapes)

    @cached_property
    def rules(self) -> Rules:
        """Legal steps."""
        item = self.item
        counts = item.budget().what == "ratio" and item.counted != "unit"
        spent = costs(self.analysis, self.cost, self.groups, item.counted) if counts else {}
        own = item.own_ratios(self.groups)
        added = (lambda kept: 0) if self.how == "none" else self._added
        return Rules(item.scope, item.align, item.min_keep, own, spent, added)

    @cached_property
    def _sites(self) -> tuple[Site, ...]:
        return find_sites(self.analysis.model, self.analysis.sizes)

    def _added(self, kept: Kept) -> int:
        """Elements of the biases that a repair puts where there are none."""
        total, cut = 0, False
        for site in self._sites:
            touched = kept.touches(self._label(site.edge, site.in_axis))
            cut = touched or (cut and self.item.driver == "sequential")
            if cut and site.bias is None:
                total += kept.count(self._label(site.output, site.out_axis))
        return total

    def _label(self, value: ir.Value, axis: int) -> Label:
        labels = self.analysis.values.get(value, ())
        return labels[axis] if labels else ()

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
            repaired = self._repaired(cuts)
            if done < self.item.rounds:
                now = _twin(self.analysis, cuts, repaired)
        self._require(choice)
        for note in repaired.notes if repaired else ():
            self.context.warn(note)
        return Plan(
            options=self.item.options(),
            cuts=cuts,
            widths={group.id: group.size for group in self.groups if group.id in cuts},
            scores={name: tuple(scores[name].tolist()) for name in cuts},
            replaced=repaired.replaced if repaired else {},
            biases=repaired.biases if repaired else {},
        )

    def _scores(self, now: Analysis, cuts: Cuts) -> dict[str, Scores]:
        """Scores on the model as it is now; what is gone already comes first."""
        from graphprune.prune.scoring import score

        item, context = self.item, self.context
        groups = self.groups if now is self.analysis else tuple(now.group(g.id) for g in self.groups)
        what = f"criterion={item.criterion}"
        scoring = item.scoring(context.seed)
        collect = (
            partial(context.collect, now.model, what=what) if _measured(scoring, groups, context) else None
        )
        found = score(now, groups, scoring, self.kinds, collect, context.warn)
        if item.counts != "unit":
            found = per_cost(found, costs(self.analysis, self.cost, self.groups, item.counts))
        return behind(found, cuts)

    def _chosen(self, scores: Mapping[str, Scores], done: float) -> Choice:
        budget = self.item.budget().part(done)
        return choose(self.groups, scores, budget, self.rules, self.analysis, lambda: self.cost, self.shares)

    @cached_property
    def how(self) -> str:
        """The repair that is carried out."""
        item, context = self.item, self.context
        if item.repair != "auto":
            return item.repair
        if not context.calibration:
            return "none"
        context.warn(
            f"repair=auto: {AUTO} on the calibration data; repair=none leaves the weights as they are"
        )
        return AUTO

    def _repaired(self, cuts: Cuts) -> Repaired | None:
        """New weights and biases that make up for a cut; None where the rest stays as it is."""
        if self.how == "none" or not cuts:
            return None
        from graphprune.prune.repair import repair, wanted_grams

        context, statistics = self.context, None
        if self.item.driver == "oneshot":
            wanted = wanted_grams(self.analysis)
            statistics = context.collect(self.analysis.model, wanted, f"repair={self.how}")
        return repair(
            self.analysis,
            cuts,
            how=self.how,
            driver=self.item.driver,
            batches=context.calibration,
            statistics=statistics,
            refresh=self.item.refreshes,
            seed=context.seed,
            threads=context.threads,
            timeout=context.timeout,
            progress=context.progress,
        )

    def _require(self, choice: Choice) -> None:
        """Something was removed, and enough."""
        item = self.item
        if choice.missed is not None:
            budget = item.budget()
            self.context.fall_short(
                f"{budget.what}={budget.share:g} cannot be met: with min-keep={item.min_keep:g} "
                f"and align={item.align} at least {choice.missed:.3f} of the {budget.what} stay",
                "lower min-keep, set align=1, or see `graphprune inspect` for what is pinned and why",
            )
        if not any(len(choice.cuts.get(g.id, range(g.size))) < g.size for g in self.groups):
            raise PromiseError(*_too_small(item, self.groups))


def _measured(scoring: Scoring, groups: tuple[Group, ...], context: Context) -> bool:
    """Whether to score by data; bn-scale without data says itself what it lacks."""
    return bool(context.calibration) or (scoring.criterion != "bn-scale" and scoring.needs_data(groups))


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


def _twin(analysis: Analysis, cuts: Cuts, repaired: Repaired | None) -> Analysis:
    """The dense model with what is gone set to zero and the rest repaired, analysed anew."""
    from graphprune.prune.bias import with_biases
    from graphprune.prune.zeroed import zeroed

    model = analysis.model.clone()
    for name, array in zeroed(analysis, cuts, repaired.replaced if repaired else {}).items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return analyse(with_biases(model, repaired.biases) if repaired else model, analysis.options)


def _too_small(item: Structured, groups: tuple[Group, ...]) -> tuple[str, str]:
    widths = ", ".join(f"{g.id} ({g.size})" for g in groups[:8])
    return (
        f"nothing was removed: no Group allows a step this small with align={item.align} "
        f"and min-keep={item.min_keep:g}; "
        f"widths: {widths}{', ...' if len(groups) > 8 else ''}",
        "raise the ratio, or set align=1",
    )
