"""Structured pruning: score Units, choose the least salient within a budget, cut them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import numpy as np

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.plan import Plan
from graphprune.prune.saliency import Scores, batch_norm_slices, score_groups
from graphprune.prune.select import Order, Scope, alignment, in_order, ladder, take_ratio, take_until

DEFAULT_RATIO = 0.3


@dataclass(frozen=True)
class Prune(Pass):
    """Removes whole Units (channels, heads, hidden widths) and everything that depends on them."""

    name: ClassVar[str] = "prune"

    criterion: Literal["l1", "l2", "lamp", "fpgm", "bn-scale", "random"] = field(
        default="l2", metadata={"help": "how Units are scored; higher scores stay"}
    )
    scope: Scope = field(
        default="global", metadata={"help": "which Units compete: all, those of one Group, of like Groups"}
    )
    ratio: float | None = field(
        default=None, metadata={"help": f"share of Units to remove (default {DEFAULT_RATIO})"}
    )
    params: float | None = field(default=None, metadata={"help": "share of the model's parameters to keep"})
    macs: float | None = field(default=None, metadata={"help": "share of the model's multiply-adds to keep"})
    align: int | Literal["auto"] = field(
        default="auto", metadata={"help": "kept widths are multiples of this"}
    )
    min_keep: float = field(default=0.1, metadata={"help": "share of every Group that stays in any case"})
    only: tuple[str, ...] = field(
        default=(), metadata={"help": "globs: Groups, initializers or nodes to prune"}
    )
    ignore: tuple[str, ...] = field(
        default=(), metadata={"help": "globs: Groups, initializers or nodes to leave alone"}
    )
    ratios: Mapping[str, float] = field(
        default_factory=dict, metadata={"help": "ratios of their own for some Groups, by glob"}
    )
    layernorm: Literal["refuse", "expand", "slice"] = field(
        default="refuse",
        metadata={"help": "widths under LayerNorm: leave, cut exactly, or cut and change the function"},
    )
    allow_inexact: bool = field(
        default=False, metadata={"help": "permit cuts that change what a normaliser computes"}
    )
    share: Literal["split", "tie"] = field(
        default="split", metadata={"help": "uses of one tensor: independent, or one"}
    )
    io: Literal["auto", "fixed"] = field(
        default="auto", metadata={"help": "whether cache inputs may change their shape"}
    )
    shuffle: Literal["gather", "keep"] = field(
        default="gather",
        metadata={"help": "channel shuffles: a Gather of any channels, or cut in whole rows"},
    )

    def __post_init__(self) -> None:
        for label, value in (
            ("ratio", self.ratio),
            ("min-keep", self.min_keep),
            *((f"ratios['{k}']", v) for k, v in self.ratios.items()),
        ):
            if value is not None and not 0 <= value < 1:
                raise ArgumentError(f"{label} must be in [0, 1), got {value}")
        for label, value in (("params", self.params), ("macs", self.macs)):
            if value is not None and not 0 < value <= 1:
                raise ArgumentError(f"{label} is the share that is kept: it must be in (0, 1], got {value}")
        if sum(v is not None for v in (self.ratio, self.params, self.macs)) > 1:
            raise ArgumentError("give one of ratio, params and macs, not several")
        if self.align != "auto" and self.align < 1:
            raise ArgumentError(f"align must be at least 1, got {self.align}")
        if self.layernorm == "slice" and not self.allow_inexact:
            raise ArgumentError(
                "layernorm=slice changes what LayerNorm computes",
                "add allow-inexact=true, or use layernorm=expand",
            )

    def options(self) -> Options:
        """What the analysis may assume under these arguments."""
        return Options(self.layernorm, self.allow_inexact, self.share, self.io, self.shuffle)

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find, score, choose."""
        analysis = subject.analysis
        groups = self._groups(analysis)
        if self.ratio == 0 and not self.ratios:
            return Plan(options=self.options())
        if not groups:
            raise PromiseError(*_nothing(analysis, bool(self.only or self.ignore)))
        scores = self._scores(analysis, groups, context)
        cuts = self._choose(analysis, groups, scores, context)
        widths = {group.id: group.size for group in groups if group.id in cuts}
        ranked = {name: tuple(scores[name].tolist()) for name in cuts}
        return Plan(options=self.options(), cuts=cuts, widths=widths, scores=ranked)

    def _groups(self, analysis: Analysis) -> tuple[Group, ...]:
        for pattern in (*self.only, *self.ignore, *self.ratios):
            if not any(_matches(group, pattern) for group in analysis.groups):
                raise ArgumentError(
                    f"nothing in the model is called '{pattern}'", "`graphprune inspect` lists the Groups"
                )
        chosen = [g for g in analysis.prunable if not self.only or any(_matches(g, p) for p in self.only)]
        return tuple(g for g in chosen if not any(_matches(g, p) for p in self.ignore))

    def _scores(self, analysis: Analysis, groups: tuple[Group, ...], context: Context) -> dict[str, Scores]:
        folded = [g for g in groups if self.criterion == "bn-scale" and not batch_norm_slices(g)]
        if not folded or not context.calibration:
            return score_groups(analysis, groups, self.criterion, context.seed)
        from graphprune.statistics.spread import output_spread

        unfolded = tuple(g for g in groups if g not in folded)
        scores = score_groups(analysis, unfolded, self.criterion, context.seed) if unfolded else {}
        return scores | output_spread(
            analysis, tuple(folded), context.calibration, context.threads, context.progress, context.timeout
        )

    def _choose(
        self, analysis: Analysis, groups: tuple[Group, ...], scores: dict[str, Scores], context: Context
    ) -> dict[str, tuple[int, ...]]:
        own = {g.id: self._own_ratio(g) for g in groups}
        ladders = [
            ladder(number, group, scores[group.id], alignment(group, self.align), self.min_keep)
            for number, group in enumerate(groups)
        ]
        cuts: dict[str, tuple[int, ...]] = {}
        for steps in ladders:
            ratio = own[groups[steps.group].id]
            if ratio is not None:
                order = in_order([steps], groups, "local")
                cuts |= order.kept(take_ratio(order, groups, ratio, "local"), groups)
        order = in_order(
            [steps for steps in ladders if own[groups[steps.group].id] is None], groups, self.scope
        )
        cuts |= self._within_budget(analysis, groups, order, cuts, own, context)
        if not any(
            len(kept) < group.size for group in groups for kept in [cuts.get(group.id, range(group.size))]
        ):
            raise PromiseError(*_too_small(self, groups))
        return cuts

    def _own_ratio(self, group: Group) -> float | None:
        return next((ratio for pattern, ratio in self.ratios.items() if _matches(group, pattern)), None)

    def _within_budget(
        self,
        analysis: Analysis,
        groups: tuple[Group, ...],
        order: Order,
        cuts: dict[str, tuple[int, ...]],
        own: Mapping[str, float | None],
        context: Context,
    ) -> dict[str, tuple[int, ...]]:
        if self.params is None and self.macs is None:
            ratio = DEFAULT_RATIO if self.ratio is None else self.ratio
            rest = tuple(g for g in groups if own[g.id] is None)
            return order.kept(
                take_ratio(order, rest if self.scope == "global" else groups, ratio, self.scope), groups
            )
        model = CostModel(analysis, context.shapes)
        what, share = ("params", self.params) if self.params is not None else ("macs", self.macs)
        count, dense = (
            (model.params, model.dense_params) if what == "params" else (model.macs, model.dense_macs)
        )
        target = int(np.floor((share or 0.0) * dense))
        taken = take_until(order, groups, lambda kept: count(Kept(analysis, cuts | dict(kept))) <= target)
        if taken is None:
            kept = order.kept(len(order), groups)
            least = count(Kept(analysis, cuts | kept)) / max(1, dense)
            context.fall_short(
                f"{what}={share:g} cannot be met: with min-keep={self.min_keep:g} and align={self.align} "
                f"at least {least:.3f} of the {what} stay",
                "lower min-keep, set align=1, or see `graphprune inspect` for what is pinned and why",
            )
            return kept
        return order.kept(taken, groups)


def _matches(group: Group, pattern: str) -> bool:
    names = {group.id, *(s.initializer for s in group.slices), *(s.node for s in group.slices)}
    return any(fnmatchcase(name, pattern) for name in names)


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


def _too_small(prune: Prune, groups: tuple[Group, ...]) -> tuple[str, str]:
    widths = ", ".join(f"{g.id} ({g.size})" for g in groups[:8])
    return (
        f"nothing was removed: no Group allows a step this small with align={prune.align} "
        f"and min-keep={prune.min_keep:g}; "
        f"widths: {widths}{', ...' if len(groups) > 8 else ''}",
        "raise the ratio, or set align=1",
    )
