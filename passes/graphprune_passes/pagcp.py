"""PAGCP: performance-aware global channel pruning (Ye et al., TPAMI 2023).

Groups are visited in the order of what they cost; each shrinks, least L1 norms first, as far as its allowance
of additional loss permits, and every allowance is the one before it times a factor that makes the product of
all equal `tau`. Every output is a task, and the one that suffers most decides. Without labels the loss of an
output is 1 plus its divergence from the dense model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import ClassVar, Literal

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.allowance import Commit, Cuts, Losses, Search, efficient, growth
from graphprune.prune.divergence import Judge, Metric
from graphprune.prune.gates import Candidates, Gated, gated
from graphprune.prune.plan import Plan
from graphprune.prune.saliency import score_groups
from graphprune.prune.select import Ladder, alignment, ladder

PROBE = 0.3
"""The share of a Group by whose cost Groups are ordered."""


@dataclass(frozen=True)
class Pagcp(Pass):
    """Shrinks every Group as far as the outputs allow, one after another."""

    name: ClassVar[str] = "pagcp"

    delta0: float = field(default=0.05, metadata={"help": "additional loss that the first Group may cost"})
    tau: float = field(default=1.3, metadata={"help": "loss after all Groups, relative to the dense model"})
    topk: float = field(
        default=1.0, metadata={"help": "share of the cuts to keep: those that cost least per multiply-add"}
    )
    divergence: Metric = field(
        default="kl",
        metadata={"help": "how outputs are compared: kl, jsd, l2, auto (jsd for classes, else l2)"},
    )
    params: float | None = field(default=None, metadata={"help": "stop at this share of the parameters"})
    macs: float | None = field(default=None, metadata={"help": "stop at this share of the multiply-adds"})
    align: int | Literal["auto"] = field(
        default="auto", metadata={"help": "kept widths are multiples of this"}
    )
    min_keep: float = field(default=0.05, metadata={"help": "share of every Group that stays in any case"})
    only: tuple[str, ...] = field(
        default=(), metadata={"help": "globs: Groups, initializers or nodes to prune"}
    )
    ignore: tuple[str, ...] = field(
        default=(), metadata={"help": "globs: Groups, initializers or nodes to leave"}
    )
    layernorm: Literal["refuse", "expand"] = field(
        default="refuse", metadata={"help": "widths under LayerNorm: leave, or cut exactly"}
    )

    def __post_init__(self) -> None:
        if self.delta0 <= 0:
            raise ArgumentError(f"delta0 must be positive, got {self.delta0}")
        if self.tau <= 1 + self.delta0:
            raise ArgumentError(f"tau must be more than 1 + delta0 = {1 + self.delta0:g}, got {self.tau}")
        if not 0 < self.topk <= 1:
            raise ArgumentError(f"topk must be in (0, 1], got {self.topk}")
        if not 0 <= self.min_keep < 1:
            raise ArgumentError(f"min-keep must be in [0, 1), got {self.min_keep}")
        for label, value in (("params", self.params), ("macs", self.macs)):
            if value is not None and not 0 < value <= 1:
                raise ArgumentError(f"{label} is the share that is kept: it must be in (0, 1], got {value}")
        if self.params is not None and self.macs is not None:
            raise ArgumentError("give one of params and macs, not both")

    def options(self) -> Options:
        """What the analysis may assume under these arguments."""
        return Options(self.layernorm)

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Score, order the Groups, search within the allowances, keep the efficient cuts."""
        analysis = subject.analysis
        if not context.calibration:
            raise ArgumentError("pagcp needs calibration data", "give some: --calibration FILE")
        gates = gated(analysis, self._groups(analysis))
        for name, why in gates.refused.items():
            context.warn(f"group '{name}' stays: {why}")
        groups = tuple(group for group in analysis.prunable if group.id in gates.groups)
        if not groups:
            raise PromiseError(
                "nothing to prune: no Group may shrink", "`graphprune inspect` lists the Groups"
            )
        cost = CostModel(analysis, context.shapes)
        scores = score_groups(analysis, groups, "l1", context.seed)
        ladders = [
            ladder(number, group, scores[group.id], alignment(group, self.align), self.min_keep)
            for number, group in enumerate(groups)
        ]
        commits = self._search(analysis, groups, ladders, cost, gates, context)
        cuts = {commit.group: commit.kept for commit in efficient(commits, self.topk)}
        self._require(analysis, cuts, cost, context)
        return Plan(
            options=self.options(),
            cuts=cuts,
            widths={group.id: group.size for group in groups if group.id in cuts},
            scores={name: tuple(scores[name].tolist()) for name in cuts},
        )

    def _groups(self, analysis: Analysis) -> list[Group]:
        for pattern in (*self.only, *self.ignore):
            if not any(_matches(group, pattern) for group in analysis.groups):
                raise ArgumentError(
                    f"nothing in the model is called '{pattern}'", "`graphprune inspect` lists the Groups"
                )
        chosen = [g for g in analysis.prunable if not self.only or any(_matches(g, p) for p in self.only)]
        return [g for g in chosen if not any(_matches(g, p) for p in self.ignore)]

    def _search(
        self,
        analysis: Analysis,
        groups: Sequence[Group],
        ladders: Sequence[Ladder],
        cost: CostModel,
        gates: Gated,
        context: Context,
    ) -> list[Commit]:
        session = Candidates(gates, threads=context.threads, timeout=context.timeout)
        judge = Judge(analysis.model, context.calibration, session.run, self.divergence)

        def losses(cuts: Cuts) -> Losses:
            found = judge.losses(partial(session.run, cuts=cuts))
            return {name: 1 + loss for name, loss in found.items()}

        factor = growth(len(ladders), self.delta0, self.tau)
        saved = [cost.dense_macs - cost.macs(_probe(analysis, steps, groups)) for steps in ladders]
        descending = factor <= 1
        order = sorted(range(len(ladders)), key=lambda at: (-saved[at] if descending else saved[at], at))
        search = Search(
            [ladders[at] for at in order],
            groups,
            losses,
            lambda cuts: cost.macs(Kept(analysis, cuts)),
            lambda cuts: self._met(analysis, cuts, cost),
            self.delta0,
            factor,
        )
        return search.run(lambda done, total: context.progress(done, total, "groups"))

    def _met(self, analysis: Analysis, cuts: Cuts, cost: CostModel) -> bool:
        if self.params is not None:
            return cost.params(Kept(analysis, cuts)) <= self.params * cost.dense_params
        if self.macs is not None:
            return cost.macs(Kept(analysis, cuts)) <= self.macs * cost.dense_macs
        return False

    def _require(self, analysis: Analysis, cuts: Cuts, cost: CostModel, context: Context) -> None:
        """Something was removed, and enough."""
        if not cuts:
            raise PromiseError(
                "nothing was removed: no Group allows a step within delta0",
                "raise delta0 and tau, or set align=1",
            )
        if (self.params is not None or self.macs is not None) and not self._met(analysis, cuts, cost):
            what, share = ("params", self.params) if self.params is not None else ("macs", self.macs)
            context.fall_short(
                f"{what}={share:g} cannot be met within delta0={self.delta0:g} and tau={self.tau:g}",
                "raise delta0 and tau",
            )


def _probe(analysis: Analysis, steps: Ladder, groups: Sequence[Group]) -> Kept:
    """The model without the first 30 % of a Group."""
    group = groups[steps.group]
    kept: Mapping[str, tuple[int, ...]] = {group.id: tuple(steps.order[int(PROBE * group.size) :].tolist())}
    return Kept(analysis, kept)


def _matches(group: Group, pattern: str) -> bool:
    names = {group.id, *(s.initializer for s in group.slices), *(s.node for s in group.slices)}
    return any(fnmatchcase(name, pattern) for name in names)
