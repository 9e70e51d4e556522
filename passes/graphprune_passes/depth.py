"""Depth pruning: remove whole residual sublayers (attention, feed-forward, convolution blocks).

`criterion=jsd` is FinerCut (Zhang et al., 2024): greedily remove the sublayer without which the outputs stay
closest to the dense model's; `influence` scores once by 1 - cos of a sublayer's stream before and after it
(block influence, ShortGPT); `reverse` removes from the back, the baseline to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from graphprune.axes import Analysis
from graphprune.axes.sublayers import Sublayer, Sublayers, find_sublayers
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.amounts import Left, LeftTime, budgets
from graphprune.pipeline.bounds import require_budgets
from graphprune.pipeline.clocks import clock_of_sublayers
from graphprune.pipeline.globs import filtered, require_named, sublayer_names
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.pipeline.ratios import Ratio
from graphprune.pipeline.repairing import HELP, Repair, repaired, settled, tell
from graphprune.prune.choose import Budget
from graphprune.prune.depth import DepthCost, Enough, Removal, greedy, outputs_without, ranked, taken
from graphprune.prune.divergence import Metric
from graphprune.prune.plan import Plan

DEFAULT_RATIO = 0.25


@dataclass(frozen=True)
class Depth(Pass):
    """Removes residual sublayers until enough of them, or enough of the model, is gone."""

    name: ClassVar[str] = "depth"
    turn: ClassVar[Turn | None] = "structure"

    criterion: Literal["jsd", "influence", "reverse"] = argument(
        "jsd", "divergence of the outputs (greedy), turn of the stream, or simply the last ones"
    )
    divergence: Metric = argument("auto", "how outputs are compared: jsd for classes, else relative l2")
    search: Literal["greedy", "oneshot"] = argument(
        "greedy", "try all candidates again after each removal, or score them once"
    )
    remove: int | None = argument(None, "number of sublayers to remove")
    ratio: float | None = argument(None, f"share of the sublayers to remove (default {DEFAULT_RATIO})")
    params: Left = argument(None, "parameters to keep: a share of the model's, or as many")
    macs: Left = argument(None, "multiply-adds to keep: a share of the model's, or as many")
    bytes: Left = argument(None, "bytes of all tensors to keep: a share of the model's, or as many")
    latency: LeftTime = argument(None, "time of a run to keep: a share of the model's, or so many ms")
    per: Literal["unit", "params", "macs"] = argument("unit", "divide the damage by what a sublayer costs")
    repair: Repair = argument("auto", HELP)
    only: tuple[str, ...] = argument((), "globs: sublayers that may go")
    ignore: tuple[str, ...] = argument((), "globs: sublayers that stay")

    def __post_init__(self) -> None:
        require_budgets(self, remove=self.remove, ratio=self.ratio)
        if self.remove is not None and self.remove < 0:
            raise ArgumentError(f"remove must be at least 0, got {self.remove}")
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise ArgumentError(f"ratio must be in [0, 1], got {self.ratio}")

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find the sublayers, order them, take as many as the budget asks for, repair what is behind them."""
        analysis = subject.analysis
        found = find_sublayers(analysis)
        require_named(found.found, sublayer_names, lambda i: i.name, "sublayer", (*self.only, *self.ignore))
        candidates = filtered(found.found, sublayer_names, self.only, self.ignore)
        clock = clock_of_sublayers(self, analysis, candidates, context)
        cost = DepthCost(analysis, context.counted, clock)
        enough = self._enough(candidates, cost, context)
        if enough(()):
            context.forced(f"there are {len(candidates)} sublayers, and they go as a whole")
            return Plan(options=self.options())
        if not candidates:
            raise PromiseError(*_nothing(found))
        how = settled(self.repair, context)
        removals = self._removals(analysis, candidates, enough, cost, context)
        order = taken(removals, candidates, enough)
        gone = sorted(order, key=candidates.index)
        self._require(gone, enough, context)
        context.forced(f"without '{order[-1].name}' too little is gone, and sublayers go as a whole")
        self._note(gone, removals, context)
        if clock is not None:
            context.foretell(clock(gone))
        made = repaired(analysis, {}, how, context, bypassed=gone)
        tell(made, how, context)
        return Plan(
            options=self.options(),
            bypassed=tuple(item.name for item in gone),
            replaced=made.replaced,
            biases=made.biases,
        )

    def ratio_taken(self, subject: Subject, plan: Plan, context: Context) -> Ratio | None:
        """Of the sublayers that may go."""
        if self.remove is not None or budgets(self):
            return None
        candidates = filtered(find_sublayers(subject.analysis).found, sublayer_names, self.only, self.ignore)
        asked = DEFAULT_RATIO if self.ratio is None else self.ratio
        return Ratio(asked, len(plan.bypassed) / max(1, len(candidates)), "sublayers")

    def _enough(self, candidates: Sequence[Sublayer], cost: DepthCost, context: Context) -> Enough:
        given = [Budget(what, left, context.given.get(what)) for what, left in budgets(self).items()]
        if given:
            enough = [cost.enough(budget) for budget in given]
            return lambda gone: all(each(gone) for each in enough)
        ratio = DEFAULT_RATIO if self.ratio is None else self.ratio
        count = int(ratio * len(candidates) + 1e-9) if self.remove is None else self.remove
        return lambda gone: len(gone) >= count

    def _removals(
        self,
        analysis: Analysis,
        candidates: Sequence[Sublayer],
        enough: Enough,
        cost: DepthCost,
        context: Context,
    ) -> list[Removal]:
        if self.criterion == "reverse":
            return ranked({item.name: float(-at) for at, item in enumerate(candidates)}, candidates)
        weights = cost.weights(candidates, self.per)
        if self.criterion == "influence":
            return ranked(self._influence(analysis, candidates, weights, context), candidates)
        context.require_calibration("criterion=jsd", "use criterion=reverse")
        loss = outputs_without(
            analysis,
            candidates,
            context.calibration,
            self.divergence,
            timeout=context.run.timeout,
            note=context.note,
        )
        if self.search == "oneshot":
            scores = {}
            for number, item in enumerate(candidates):
                context.run.progress(number, len(candidates), "candidates")
                scores[item.name] = loss([item.name]) / weights[item.name]
            return ranked(scores, candidates)
        return greedy(
            candidates,
            loss,
            enough,
            lambda item: weights[item.name],
            lambda done, total: context.run.progress(done, total, "candidates"),
        )

    def _influence(
        self,
        analysis: Analysis,
        candidates: Sequence[Sublayer],
        weights: dict[str, float],
        context: Context,
    ) -> dict[str, float]:
        from graphprune.statistics.measures import Wanted

        pairs = {item.name: (item.stream.name or "", item.join.outputs[0].name or "") for item in candidates}
        wanted = Wanted(angles=tuple(sorted(set(pairs.values()))))
        measured = context.collect(analysis.model, wanted, "criterion=influence")
        return {name: measured.angle(*pair).influence / weights[name] for name, pair in pairs.items()}

    def _require(self, gone: Sequence[Sublayer], enough: Enough, context: Context) -> None:
        if not enough(gone):
            context.fall_short(
                f"{self} cannot be met: {len(gone)} sublayers may go, and more would have to",
                "raise the budget, or see docs/structures.md for what counts as a sublayer",
            )

    def _note(self, gone: Sequence[Sublayer], removals: Sequence[Removal], context: Context) -> None:
        losses = {removal.name: removal.loss for removal in removals}
        for item in gone:
            caches = "".join(f", and the cache '{past.name}'" for past, _ in item.caches)
            why = "" if self.criterion == "reverse" else f": {self.criterion} {losses[item.name]:.4g}"
            context.note(f"sublayer '{item.name}' goes ({len(item.nodes)} nodes{caches}){why}")


def _nothing(found: Sublayers) -> tuple[str, str]:
    lines = "".join(f"\n  {name}: {why}" for name, why in list(found.reasons.items())[:20])
    return f"nothing to remove: the model has no residual sublayer that may go{lines}", ""
