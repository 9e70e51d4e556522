"""OBSPA: group optimal brain surgeon, then a closed-form update of what stays (SPA, arXiv 2403.18955)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from graphprune.errors import ArgumentError
from graphprune.pipeline.datafree import Assumed, noise
from graphprune.pipeline.passes import Context, Subject, argument
from graphprune.pipeline.structured import Structured


@dataclass(frozen=True)
class Obspa(Structured, criterion="obs", per="budget", repair="refit"):
    """Removes the Units whose loss the rest can make up for best, and lets it make up for them.

    The loss of a Unit is what it adds to the loss of those that go before it, so a Group that is nearly empty
    is dear, and all Groups compete. The paper scores every Unit as if it went alone, and cuts each Group by
    the same share (`scope=local`).
    """

    name: ClassVar[str] = "obspa"

    calibration: Literal["given", "free"] = argument(
        "given", "the samples of --calibration, or none: noise and what BatchNormalizations imply"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration == "free" and "match" in self.repair:
            raise ArgumentError(
                "repair=match needs samples, which calibration=free has not", "use repair=refit"
            )

    @property
    def not_by_outputs(self) -> str:
        """Of noise outputs say nothing."""
        if self.calibration == "free":
            return "needs samples: with calibration=free there is but noise"
        return super().not_by_outputs

    @property
    def refreshes(self) -> bool:
        """Statistics of noise are no statistics for a BatchNormalization."""
        return self.calibration == "given"

    def prepared(self, subject: Subject, context: Context) -> Context:
        """Without data, noise."""
        if self.calibration == "given":
            return context
        context.warn("calibration=free: scored and repaired on noise; samples of real data do better")
        return dataclasses.replace(context, calibration=noise(subject.model, context), collector=Assumed())
