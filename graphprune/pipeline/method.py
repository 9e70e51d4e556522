"""The arguments of a structured pass and what they come to: how Units are scored, chosen and repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.kinds import Chosen
from graphprune.errors import ArgumentError
from graphprune.pipeline import criteria
from graphprune.pipeline.amounts import MEASURES, Left, LeftTime, budgets
from graphprune.pipeline.bounds import require_budgets
from graphprune.pipeline.globs import group_names, matches
from graphprune.pipeline.passes import Context, Pass, Subject, argument
from graphprune.pipeline.repairing import HELP, Repair
from graphprune.prune.allocate import Cost, Per
from graphprune.prune.choose import Budget, Shares
from graphprune.prune.normalise import Normaliser
from graphprune.prune.select import Scope

if TYPE_CHECKING:
    from graphprune.prune.scoring import Scoring

DEFAULT_RATIO = 0.3


@dataclass(frozen=True)
class Method(Pass):
    """How a method scores, chooses and repairs; what is no argument, it overrides."""

    counted: ClassVar[Cost] = "unit"

    criterion: Annotated[str, criteria.names] = argument("l2", "how Units are scored; higher scores stay")
    scope: Scope = argument("global", "which Units compete: all, those of one Group, of like Groups")
    ratio: float | None = argument(None, f"share of Units to remove (default {DEFAULT_RATIO})")
    params: Left = argument(None, "parameters to keep: a share of the model's, or as many")
    macs: Left = argument(None, "multiply-adds to keep: a share of the model's, or as many")
    bytes: Left = argument(None, "bytes of all tensors to keep: a share of the model's, or as many")
    latency: LeftTime = argument(
        None, "time of a run to keep: a share of the model's, or so many ms, solved by a device profile"
    )
    normalise: Normaliser = argument(
        "auto", "what scores of a Group are divided by; auto: the criterion's own"
    )
    per: Per = argument("unit", "divide scores by what a Unit costs; budget: in what the budget counts")
    allocate: Literal["auto", "output", "local"] = argument(
        "auto", "what decides how much each Group gives: what outputs lose (auto: if it can be), or scores"
    )
    repair: Repair = argument("auto", HELP)
    driver: Literal["sequential", "oneshot"] = argument(
        "sequential", "repair layer by layer behind the cut ones, or from the dense model's statistics"
    )
    rounds: int = argument(1, "cut in this many steps, scored anew after each")
    kinds: tuple[Chosen, ...] = argument(("all",), "kinds of Groups to prune")
    align: int | Literal["auto"] = argument("auto", "kept widths are multiples of this")
    min_keep: float = argument(0.1, "share of every Group that stays in any case")
    only: tuple[str, ...] = argument((), "globs: Groups, initializers or nodes to prune")
    ignore: tuple[str, ...] = argument((), "globs: Groups, initializers or nodes to leave alone")
    ratios: Mapping[str, float] = field(
        default_factory=dict, metadata={"help": "ratios of their own for some Groups, by glob"}
    )
    layernorm: Literal["refuse", "expand", "slice"] = argument(
        "refuse", "widths under LayerNorm: leave, cut exactly, or cut and change the function"
    )
    allow_inexact: bool = argument(False, "permit cuts that change what a normaliser computes")
    share: Literal["split", "tie"] = argument(
        "tie", "layers applied twice: the same slots everywhere, or each its own"
    )
    io: Literal["auto", "fixed"] = argument("auto", "whether cache inputs may change their shape")
    shuffle: Literal["gather", "keep"] = argument(
        "gather", "channel shuffles: a Gather of any channels, or cut in whole rows"
    )

    dequantize: bool = argument(False, "make weights behind DequantizeLinear floats before they are cut")

    def __post_init__(self) -> None:
        criteria.require(self.criterion)
        for label, value in (
            ("ratio", self.ratio),
            ("min-keep", self.min_keep),
            *((f"ratios['{k}']", v) for k, v in self.ratios.items()),
        ):
            if value is not None and not 0 <= value < 1:
                raise ArgumentError(f"{label} must be in [0, 1), got {value}")
        require_budgets(self, ratio=self.ratio)
        if self.align != "auto" and self.align < 1:
            raise ArgumentError(f"align must be at least 1, got {self.align}")
        if self.rounds < 1:
            raise ArgumentError(f"rounds must be at least 1, got {self.rounds}")
        if not self.kinds:
            raise ArgumentError("kinds must name at least one kind of Group")
        if self.layernorm == "slice" and not self.allow_inexact:
            raise ArgumentError(
                "layernorm=slice changes what LayerNorm computes",
                "add allow-inexact=true, or use layernorm=expand",
            )

    @property
    def needs_torch(self) -> str:
        """A criterion that reads gradients."""
        return f"criterion={self.criterion}" if self.scoring(0).criterion.gradients else ""

    def options(self) -> Options:
        """What the analysis may assume under these arguments."""
        return Options(self.layernorm, self.allow_inexact, self.share, self.io, self.shuffle, self.dequantize)

    def prepared(self, subject: Subject, context: Context) -> Context:
        """The context to decide in; a method that brings its own calibration data puts it here."""
        return context

    def scoring(self, seed: int) -> Scoring:
        """How Units are scored."""
        from graphprune.prune.scoring import Scoring

        return Scoring(self.criterion, criteria.load(self.criterion), self.normalise, seed)

    def shares(self, analysis: Analysis, groups: tuple[Group, ...], context: Context) -> Shares | None:
        """How much each Group gives at a share for all; None where scores decide it."""
        return None

    @property
    def not_by_outputs(self) -> str:
        """Why outputs cannot say how much each Group gives; empty where they can."""
        if not budgets(self):
            return f"needs a budget in {', '.join(MEASURES)}: a ratio counts Units"
        if self.scope != "global":
            return f"needs scope=global: with scope={self.scope} Groups do not compete"
        return ""

    @property
    def refreshes(self) -> bool:
        """Whether a repair may re-estimate BatchNormalizations on the calibration data."""
        return True

    def budgets(self) -> tuple[Budget, ...]:
        """What to reach; all hold."""
        given = tuple(Budget(what, left) for what, left in budgets(self).items())
        return given or (Budget("ratio", DEFAULT_RATIO if self.ratio is None else self.ratio),)

    @property
    def counts(self) -> tuple[Cost, ...]:
        """What scores are divided by; several costs count as shares of the model."""
        if self.per != "budget":
            return (self.per,)
        return tuple(budgets(self)) or ("unit",)

    def own_ratios(self, groups: tuple[Group, ...]) -> dict[str, float]:
        """Ratios that the user gave to some Groups."""
        return {
            group.id: found[0]
            for group in groups
            if (found := [r for glob, r in self.ratios.items() if matches(group_names(group), glob)])
        }
