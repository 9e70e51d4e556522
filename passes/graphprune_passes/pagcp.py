"""PAGCP: performance-aware global channel pruning (Ye et al., TPAMI 2023).

Groups are visited in the order of what they cost; each shrinks, least L1 norms first, as far as its allowance
of additional loss permits, and every allowance is the one before it times a factor that makes the product of
all equal `tau`. Every output is a task, and the one that suffers most decides. Without labels the loss of an
output is 1 plus its divergence from the dense model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.amounts import Left, LeftTime, budgets
from graphprune.pipeline.bounds import require_budgets
from graphprune.pipeline.clocks import clock_of_groups, ladders
from graphprune.pipeline.globs import filtered, group_names, require_groups
from graphprune.pipeline.passes import Context, Pass, Subject, Turn, argument
from graphprune.pipeline.repairing import Repair, added_by, repaired, settled, tell
from graphprune.prune.allowance import Commit, Cuts, Search, efficient, growth, outputs_behind, visited
from graphprune.prune.choose import Budget
from graphprune.prune.divergence import Metric
from graphprune.prune.finer import Steps
from graphprune.prune.gates import Gated, gated
from graphprune.prune.plan import Plan
from graphprune.prune.scoring import score_groups


@dataclass(frozen=True)
class Pagcp(Pass):
    """Shrinks every Group as far as the outputs allow, one after another."""

    name: ClassVar[str] = "pagcp"
    turn: ClassVar[Turn | None] = "structure"

    delta0: float = argument(0.05, "additional loss that the first Group may cost")
    tau: float = argument(1.3, "loss after all Groups, relative to the dense model")
    topk: float = argument(1.0, "share of the cuts to keep: those that cost least per multiply-add")
    divergence: Metric = argument(
        "kl", "how outputs are compared: kl, jsd, l2, auto (jsd for classes, else l2)"
    )
    params: Left = argument(None, "stop at this share of the parameters, or at as many")
    macs: Left = argument(None, "stop at this share of the multiply-adds, or at as many")
    bytes: Left = argument(None, "stop at this share of the bytes of all tensors, or at as many")
    latency: LeftTime = argument(None, "stop at this share of the time of a run, or at so many ms")
    repair: Repair = argument("refit", "what makes up for the chosen cut")
    driver: Literal["sequential", "oneshot"] = argument(
        "sequential", "repair layer by layer behind the cut ones, or from the dense model's statistics"
    )
    align: int | Literal["auto"] = argument("auto", "kept widths are multiples of this")
    min_keep: float = argument(0.05, "share of every Group that stays in any case")
    only: tuple[str, ...] = argument((), "globs: Groups, initializers or nodes to prune")
    ignore: tuple[str, ...] = argument((), "globs: Groups, initializers or nodes to leave")
    layernorm: Literal["refuse", "expand"] = argument(
        "refuse", "widths under LayerNorm: leave, or cut exactly"
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
        require_budgets(self)

    def options(self) -> Options:
        """What the analysis may assume under these arguments."""
        return Options(self.layernorm)

    def decide(self, subject: Subject, context: Context) -> Plan:
        """Score, order the Groups, search within the allowances, keep the efficient cuts, repair the rest."""
        analysis = subject.analysis
        context.require_calibration("pagcp")
        gates = gated(analysis, self._groups(analysis))
        for name, why in gates.refused.items():
            context.warn(f"group '{name}' stays: {why}")
        groups = tuple(group for group in analysis.prunable if group.id in gates.groups)
        if not groups:
            raise PromiseError(
                "nothing to prune: no Group may shrink", "`graphprune inspect` lists the Groups"
            )
        how = settled(self.repair, context)
        align = context.aligned(self.align)
        clock = clock_of_groups(self, analysis, groups, context, align, self.min_keep)
        cost = CostModel(analysis, context.counted, clock)
        over = self._over(analysis, cost, how, context.given)
        scores = score_groups(analysis, groups, "l1", context.seed)
        own = ladders(groups, scores, align, self.min_keep)
        steps = Steps(groups, scores, own, align, self.min_keep, finer=clock is None)
        commits = self._search(steps, cost, over, gates, context)
        cuts = {commit.group: commit.kept for commit in efficient(commits, self.topk)}
        self._require(cuts, over, context)
        if clock is not None:
            context.foretell(clock.left(Kept(analysis, cuts)))
        made = repaired(analysis, cuts, how, context, driver=self.driver)
        tell(made, how, context)
        return Plan(
            options=self.options(),
            cuts=cuts,
            widths={group.id: group.size for group in groups if group.id in cuts},
            scores={name: tuple(scores[name].tolist()) for name in cuts},
            replaced=made.replaced,
            biases=made.biases,
        )

    def budgets(self, given: Mapping[str, int]) -> tuple[Budget, ...]:
        """Where the search may stop: where all of them hold."""
        return tuple(Budget(what, left, given.get(what)) for what, left in budgets(self).items())

    def _groups(self, analysis: Analysis) -> tuple[Group, ...]:
        require_groups(analysis.groups, (*self.only, *self.ignore))
        return filtered(analysis.prunable, group_names, self.only, self.ignore)

    def _over(
        self, analysis: Analysis, cost: CostModel, how: str, given: Mapping[str, int]
    ) -> Callable[[Cuts], float]:
        """How far a cut and its repair go beyond the budget; what has none never does."""
        wanted, added = self.budgets(given), added_by(analysis, how, self.driver)

        def over(cuts: Cuts) -> float:
            kept = Kept(analysis, cuts)
            return min((budget.over(cost, kept, added(kept)) for budget in wanted), default=-1.0)

        return over

    def _search(
        self,
        steps: Steps,
        cost: CostModel,
        over: Callable[[Cuts], float],
        gates: Gated,
        context: Context,
    ) -> list[Commit]:
        factor = growth(len(steps.own), self.delta0, self.tau)
        search = Search(
            visited(gates.analysis, steps.own, steps.groups, cost, factor),
            steps.groups,
            outputs_behind(
                gates,
                context.calibration,
                self.divergence,
                timeout=context.run.timeout,
                note=context.note,
            ),
            lambda cuts: cost.macs(Kept(gates.analysis, cuts)),
            over,
            self.delta0,
            factor,
            lambda own: steps.of(own.group),
        )
        return search.run(lambda done, total: context.run.progress(done, total, "groups"))

    def _require(self, cuts: Cuts, over: Callable[[Cuts], float], context: Context) -> None:
        """Something was removed, and enough."""
        if not cuts:
            raise PromiseError(
                "nothing was removed: no Group allows a step within delta0",
                "raise delta0 and tau, or set align=1",
            )
        context.forced(
            f"group '{list(cuts)[-1]}' has no smaller step, and those before it go as far as they may"
        )
        wanted = " and ".join(map(str, self.budgets({})))
        if wanted and over(cuts) < 0:
            context.fall_short(
                f"{wanted} cannot be met within delta0={self.delta0:g} and tau={self.tau:g}",
                "raise delta0 and tau",
            )
