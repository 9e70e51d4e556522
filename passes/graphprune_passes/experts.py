"""Removes or merges experts of mixture-of-experts layers.

`easy-ep` (EASY-EP) sums, over the tokens of a domain, what an expert adds to the stream times how far the
layer turns the stream; `reap` (REAP) takes the mean over an expert's own tokens; `frequency` and `gate-sum`
look at the router alone. `stun` (STUN) clusters experts whose rows of the router are alike and keeps one of
each cluster, `uncurl` (UNCURL) clusters by the router's scores and merges aligned experts by how often they
are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from graphprune.axes import Analysis
from graphprune.axes.cost import CostModel
from graphprune.errors import ArgumentError, PromiseError
from graphprune.experts.keep import (
    Clusters,
    Cuts,
    Worths,
    by_worth,
    kept_each,
    kept_share,
    kept_within,
    require_fewer,
)
from graphprune.experts.mixtures import Mixture, Mixtures, find_mixtures
from graphprune.experts.routes import Routes, collect_routes
from graphprune.ir.arrays import Arrays
from graphprune.pipeline.amounts import Left, budgets
from graphprune.pipeline.bounds import require_budgets
from graphprune.pipeline.globs import filtered, mixture_names, require_named
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.pipeline.ratios import Ratio, of_units
from graphprune.pipeline.repairing import HELP, Repair, repaired, settled, tell
from graphprune.prune.choose import Budget
from graphprune.prune.plan import Plan

DEFAULT_RATIO = 0.25


@dataclass(frozen=True)
class Experts(Pass):
    """Leaves fewer experts in every layer that has some; the router still picks as many per token."""

    name: ClassVar[str] = "experts"
    turn: ClassVar[Turn | None] = "structure"

    criterion: Literal["easy-ep", "reap", "frequency", "gate-sum", "stun", "uncurl"] = argument(
        "easy-ep", "what an expert is worth, or how experts are merged"
    )
    keep: int | None = argument(None, "experts to keep in every layer")
    ratio: float | None = argument(None, f"share of the experts to remove (default {DEFAULT_RATIO})")
    params: Left = argument(None, "parameters to keep: a share of the model's, or as many")
    bytes: Left = argument(None, "bytes of all tensors to keep: a share of the model's, or as many")
    rows: float = argument(1.0, "stun: weight of the distance between rows of the router")
    mates: float = argument(0.0, "stun: weight of how often two experts are chosen together")
    merge_max_clusters: int = argument(
        0, "stun: merge instead of picking one where a layer has at most so many clusters"
    )
    align: bool = argument(True, "match hidden neurons before experts are averaged")
    repair: Repair = argument("auto", HELP)
    only: tuple[str, ...] = argument((), "globs: layers (by Group, weight or node)")
    ignore: tuple[str, ...] = argument((), "globs: layers to leave alone")

    def __post_init__(self) -> None:
        require_budgets(self, keep=self.keep, ratio=self.ratio)
        if self.keep is not None and self.keep < 1:
            raise ArgumentError(f"keep must be at least 1, got {self.keep}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ArgumentError(f"ratio must be in [0, 1), got {self.ratio}")
        if self.merge_max_clusters < 0:
            raise ArgumentError(f"merge-max-clusters must be at least 0, got {self.merge_max_clusters}")

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find the layers, measure, choose or merge, repair what is behind them."""
        analysis = subject.analysis
        found = find_mixtures(analysis)
        layers = self._layers(found)
        if self.ratio == 0:
            return Plan(options=self.options())
        if not layers:
            raise PromiseError(*_nothing(found))
        for name, why in found.reasons.items():
            context.warn(f"experts '{name}' stay: {why}")
        how = settled(self.repair, context)
        counts, routes = self._counts(analysis, layers, context), self._routes(analysis, layers, context)
        cuts, scores, merged = self._choice(analysis, layers, counts, routes, context)
        require_fewer(layers, cuts)
        context.forced("layers lose whole experts, as many of each, and keep as many as their routers pick")
        made = repaired(analysis, cuts, how, context, base=merged)
        tell(made, how, context)
        return Plan(
            options=self.options(),
            cuts=cuts,
            widths={item.group.id: item.group.size for item in layers},
            scores=scores,
            replaced={**merged, **made.replaced},
            biases=made.biases,
        )

    def ratio_taken(self, subject: Subject, plan: Plan, context: Context) -> Ratio | None:
        """Of the experts of all layers."""
        if not plan.cuts or self.keep is not None or budgets(self):
            return None
        groups = [item.group for item in self._layers(find_mixtures(subject.analysis))]
        return of_units(DEFAULT_RATIO if self.ratio is None else self.ratio, groups, plan.cuts, "experts")

    def _layers(self, found: Mixtures) -> tuple[Mixture, ...]:
        patterns = (*self.only, *self.ignore)
        require_named(found.found, mixture_names, lambda i: i.group.id, "layer of experts", patterns)
        free = [item for item in found.found if item.group.pin is None]
        return filtered(free, mixture_names, self.only, self.ignore)

    def _counts(self, analysis: Analysis, layers: Sequence[Mixture], context: Context) -> list[int]:
        """Experts to keep in each layer."""
        if self.keep is not None:
            return kept_each(layers, self.keep)
        given = [Budget(what, left, context.given.get(what)) for what, left in budgets(self).items()]
        if not given:
            return kept_share(layers, DEFAULT_RATIO if self.ratio is None else self.ratio)
        cost = CostModel(analysis, context.counted)
        counts, kept = kept_within(
            analysis, layers, lambda kept: all(budget.over(cost, kept) >= 0 for budget in given)
        )
        for budget in given:
            if budget.over(cost, kept) < 0:
                context.fall_short(
                    f"{budget} cannot be met: the routers pick as many experts as are left, and at "
                    f"least {budget.share(cost, kept):.3f} of the {budget.what} stay"
                )
        return counts

    @property
    def _clusters(self) -> Clusters | None:
        """How experts become fewer by likeness; None where they are scored."""
        if self.criterion not in ("stun", "uncurl"):
            return None
        return Clusters(self.criterion, self.rows, self.mates, self.merge_max_clusters, self.align)

    def _routes(
        self, analysis: Analysis, layers: Sequence[Mixture], context: Context
    ) -> tuple[Routes, ...] | None:
        if self._clusters is not None and not self._clusters.measured:
            return None
        context.require_calibration(f"criterion={self.criterion}")
        return collect_routes(
            analysis,
            layers,
            context.calibration,
            outputs=self.criterion in ("easy-ep", "reap"),
            run=context.run,
        )

    def _choice(
        self,
        analysis: Analysis,
        layers: Sequence[Mixture],
        counts: Sequence[int],
        routes: tuple[Routes, ...] | None,
        context: Context,
    ) -> tuple[Cuts, Worths, Arrays]:
        """The experts that stay, what they are worth, and the weights of merged ones."""
        if self._clusters is not None:
            cuts, merged = self._clusters.reduce(analysis, layers, counts, routes, context.seed)
            return cuts, {}, merged
        assert routes is not None
        cuts, scores = by_worth(layers, counts, routes, self.criterion, context.warn)
        return cuts, scores, {}


def _nothing(found: Mixtures) -> tuple[str, str]:
    lines = [f"\n  {name}: {why}" for name, why in found.reasons.items()]
    pinned = [(item.group.id, item.group.pin) for item in found.found if item.group.pin is not None]
    lines += [f"\n  {name}: {pin.reason} [{pin.node}]" for name, pin in pinned]
    return f"nothing to remove: the model has no layer of experts that may shrink{''.join(lines)}", ""
