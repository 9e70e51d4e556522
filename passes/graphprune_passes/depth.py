"""Depth pruning: remove whole residual sublayers (attention, feed-forward, convolution blocks).

`criterion=jsd` is FinerCut (Zhang et al., 2024): greedily remove the sublayer without which the outputs stay
closest to the dense model's; `influence` scores once by 1 - cos of a sublayer's stream before and after it
(block influence, ShortGPT); `reverse` removes from the back, the baseline to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import ClassVar, Literal

from graphprune.axes import Analysis
from graphprune.axes.sublayers import Sublayer, Sublayers, find_sublayers
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.depth import DepthCost, Removal, greedy, ranked
from graphprune.prune.divergence import Judge, Metric
from graphprune.prune.gates import Candidates, gated
from graphprune.prune.plan import Plan

DEFAULT_RATIO = 0.25


@dataclass(frozen=True)
class Depth(Pass):
    """Removes residual sublayers until enough of them, or enough of the model, is gone."""

    name: ClassVar[str] = "depth"

    criterion: Literal["jsd", "influence", "reverse"] = field(
        default="jsd",
        metadata={"help": "divergence of the outputs (greedy), turn of the stream, or simply the last ones"},
    )
    divergence: Metric = field(
        default="auto", metadata={"help": "how outputs are compared: jsd for classes, else relative l2"}
    )
    search: Literal["greedy", "oneshot"] = field(
        default="greedy", metadata={"help": "try all candidates again after each removal, or score them once"}
    )
    remove: int | None = field(default=None, metadata={"help": "number of sublayers to remove"})
    ratio: float | None = field(
        default=None, metadata={"help": f"share of the sublayers to remove (default {DEFAULT_RATIO})"}
    )
    params: float | None = field(default=None, metadata={"help": "share of the model's parameters to keep"})
    macs: float | None = field(default=None, metadata={"help": "share of the model's multiply-adds to keep"})
    per: Literal["unit", "params", "macs"] = field(
        default="unit", metadata={"help": "divide the damage by what a sublayer costs"}
    )
    only: tuple[str, ...] = field(default=(), metadata={"help": "globs: sublayers that may go"})
    ignore: tuple[str, ...] = field(default=(), metadata={"help": "globs: sublayers that stay"})

    def __post_init__(self) -> None:
        if sum(v is not None for v in (self.remove, self.ratio, self.params, self.macs)) > 1:
            raise ArgumentError("give one of remove, ratio, params and macs, not several")
        if self.remove is not None and self.remove < 0:
            raise ArgumentError(f"remove must be at least 0, got {self.remove}")
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise ArgumentError(f"ratio must be in [0, 1], got {self.ratio}")
        for label, value in (("params", self.params), ("macs", self.macs)):
            if value is not None and not 0 < value <= 1:
                raise ArgumentError(f"{label} is the share that is kept: it must be in (0, 1], got {value}")

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Find the sublayers, order them, take as many as the budget asks for."""
        analysis = subject.analysis
        found = find_sublayers(analysis)
        candidates = self._candidates(found)
        cost = DepthCost(analysis, context.shapes)
        enough = self._enough(candidates, cost)
        if enough(()):
            return Plan(options=self.options())
        if not candidates:
            raise PromiseError(*_nothing(found))
        removals = self._removals(analysis, candidates, enough, cost, context)
        gone = self._taken(removals, candidates, enough, context)
        losses = {removal.name: removal.loss for removal in removals}
        for item in gone:
            context.warn(_line(item, losses[item.name], self.criterion))
        return Plan(options=self.options(), bypassed=tuple(item.name for item in gone))

    def _candidates(self, found: Sublayers) -> tuple[Sublayer, ...]:
        for pattern in (*self.only, *self.ignore):
            if not any(_matches(item, pattern) for item in found.found):
                known = ", ".join(item.name for item in found.found[:6]) or "none"
                raise ArgumentError(f"no sublayer is called '{pattern}'", f"there are: {known}")
        chosen = [i for i in found.found if not self.only or any(_matches(i, p) for p in self.only)]
        return tuple(i for i in chosen if not any(_matches(i, p) for p in self.ignore))

    def _enough(
        self, candidates: Sequence[Sublayer], cost: DepthCost
    ) -> Callable[[Sequence[Sublayer]], bool]:
        if self.params is not None:
            least = self.params * cost.dense["params"]
            return lambda gone: cost.params(gone) <= least
        if self.macs is not None:
            least = self.macs * cost.dense["macs"]
            return lambda gone: cost.macs(gone) <= least
        ratio = DEFAULT_RATIO if self.ratio is None else self.ratio
        count = int(ratio * len(candidates) + 1e-9) if self.remove is None else self.remove
        return lambda gone: len(gone) >= count

    def _removals(
        self,
        analysis: Analysis,
        candidates: Sequence[Sublayer],
        enough: Callable[[Sequence[Sublayer]], bool],
        cost: DepthCost,
        context: Context,
    ) -> list[Removal]:
        if self.criterion == "reverse":
            return ranked({item.name: float(-at) for at, item in enumerate(candidates)}, candidates)
        weights = {item.name: self._weight(item, cost) for item in candidates}
        if self.criterion == "influence":
            return ranked(self._influence(analysis, candidates, weights, context), candidates)
        loss = self._loss(analysis, candidates, context)
        if self.search == "oneshot":
            scores = {item.name: loss([item.name]) / weights[item.name] for item in candidates}
            return ranked(scores, candidates)
        return greedy(
            candidates,
            loss,
            enough,
            lambda item: weights[item.name],
            lambda done, total: context.progress(done, total, "candidates"),
        )

    def _weight(self, item: Sublayer, cost: DepthCost) -> float:
        if self.per == "unit":
            return 1.0
        left = cost.params((item,)) if self.per == "params" else cost.macs((item,))
        return max(1, cost.dense[self.per] - left) / max(1, cost.dense[self.per])

    def _loss(
        self, analysis: Analysis, candidates: Sequence[Sublayer], context: Context
    ) -> Callable[[Sequence[str]], float]:
        if not context.calibration:
            raise ArgumentError(
                "criterion=jsd needs calibration data",
                "give some: --calibration FILE; or use criterion=reverse",
            )
        session = Candidates(
            gated(analysis, (), candidates), threads=context.threads, timeout=context.timeout
        )
        judge = Judge(analysis.model, context.calibration, session.run, self.divergence)

        return lambda names: judge.loss(partial(session.run, bypassed=names))

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

    def _taken(
        self,
        removals: Sequence[Removal],
        candidates: Sequence[Sublayer],
        enough: Callable[[Sequence[Sublayer]], bool],
        context: Context,
    ) -> list[Sublayer]:
        by_name = {item.name: item for item in candidates}
        gone: list[Sublayer] = []
        for removal in removals:
            if enough(gone):
                break
            gone.append(by_name[removal.name])
        if not enough(gone):
            context.fall_short(
                f"{self} cannot be met: {len(gone)} sublayers may go, and more would have to",
                "raise the budget, or see docs/structures.md for what counts as a sublayer",
            )
        return sorted(gone, key=candidates.index)


def _matches(item: Sublayer, pattern: str) -> bool:
    names = {item.name, *(node.name or "" for node in item.nodes)}
    return any(fnmatchcase(name, pattern) for name in names)


def _line(item: Sublayer, loss: float, criterion: str) -> str:
    caches = "".join(f", and the cache '{past.name}'" for past, _ in item.caches)
    why = "" if criterion == "reverse" else f": {criterion} {loss:.4g}"
    return f"sublayer '{item.name}' goes ({len(item.nodes)} nodes{caches}){why}"


def _nothing(found: Sublayers) -> tuple[str, str]:
    lines = "".join(f"\n  {name}: {why}" for name, why in list(found.reasons.items())[:20])
    return f"nothing to remove: the model has no residual sublayer that may go{lines}", ""
