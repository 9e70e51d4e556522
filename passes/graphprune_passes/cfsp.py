"""CFSP: blocks that hardly turn the stream give more, inactive neurons go (arXiv 2409.13199)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphprune.axes import Analysis, Group
from graphprune.errors import ArgumentError
from graphprune.pipeline.passes import Context, argument
from graphprune.pipeline.structured import Structured
from graphprune.prune.allocate import KAPPA, block_shares
from graphprune.prune.choose import Shares
from graphprune.prune.criteria import Bars, cfsp

if TYPE_CHECKING:
    from graphprune.prune.scoring import Scoring


@dataclass(frozen=True)
class Cfsp(Structured, criterion="cfsp", repair="none", kinds=("neurons",)):
    """Removes hidden neurons: the angle of a block says how many, weight and activation say which."""

    name: ClassVar[str] = "cfsp"

    kappa: float = argument(KAPPA, "how far blocks differ; 0: all give the same share")
    norm: Bars = argument("row", "weights relative to their row, or to their column as the authors' code")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.kappa < float("inf"):
            raise ArgumentError(f"kappa must be a number from 0 up, got {self.kappa}")

    def scoring(self, seed: int) -> Scoring:
        """CFSP's score has two forms."""
        found = super().scoring(seed)
        return replace(found, criterion=cfsp(self.norm)) if self.criterion == "cfsp" else found

    @property
    def not_by_outputs(self) -> str:
        """The angles of blocks say it."""
        return "is not for cfsp: the angle of a block says how much it gives"

    def shares(self, analysis: Analysis, groups: tuple[Group, ...], context: Context) -> Shares:
        """What each block gives; of average angle, or outside of blocks: the share itself."""
        from graphprune.prune.blocks import blocks
        from graphprune.prune.evidence import SiteIndex
        from graphprune.statistics.measures import Wanted

        around = blocks(groups, SiteIndex(analysis))
        known = context.collect(analysis.model, Wanted(angles=tuple(sorted(set(around.values())))), "cfsp")
        names = [group.id for group in groups if group.id in around]
        if len(names) < len(groups):
            context.warn(
                f"cfsp: {len(groups) - len(names)} groups lie in no residual block, and give the average"
            )
        angles = np.array([known.angle(*around[name]).mean for name in names])

        def at(share: float) -> dict[str, float]:
            kept = block_shares(angles, 1 - share, self.kappa) if names else np.empty(0)
            given = dict.fromkeys((group.id for group in groups), share)
            return given | {name: max(0.0, 1 - float(keep)) for name, keep in zip(names, kept, strict=True)}

        return at
