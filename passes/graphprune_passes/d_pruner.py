"""D-Pruner (arXiv 2405.06275): weights go that neither a domain nor all else needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Fields, Masking, Needs, gradient_fields, streamed
from graphprune.pipeline.passes import Context, Subject, argument
from graphprune.prune.gradients import Reading
from graphprune.prune.masks.patterns import Keep, Scores, keep_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphprune.prune.masks.layers import Layer
    from graphprune.prune.masks.treat import Moments

MOMENTS = (Reading("mean"), Reading("square"), Reading("cube"), Reading("fourth"))


@dataclass(frozen=True)
class DPruner(Masking):
    """Sets weights to zero by what a domain's loss feels, general knowledge kept; shapes stay."""

    name: ClassVar[str] = "d-pruner"
    needs: ClassVar[Needs] = "nothing"

    budget: Literal["uniform"] = argument("uniform", "every layer gives the same share")
    strength: float = argument(
        0.1, "what general importance adds to gradients of the domain, over their mean"
    )
    general_ratio: float = argument(0.52, "what SparseGPT removes while general importance is measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.strength < float("inf"):
            raise ArgumentError(f"strength must be a number from 0 up, got {self.strength}")
        if not 0 <= self.general_ratio < 1:
            raise ArgumentError(f"general-ratio must be in [0, 1), got {self.general_ratio}")

    @property
    def needs_torch(self) -> str:
        """The gradients."""
        return self.name

    def scores(self, matrix: Singles, known: Moments) -> Scores:
        """What the loss of the domain changes by, with a penalty for what all else needs."""
        from graphprune.prune.masks.domain import dual

        found = dual(matrix, known.fields, self.strength)
        return found.reshape(-1, matrix.shape[-1])

    def select(self, scores: Scores, ratio: float) -> Keep:
        """All weights of a layer compete."""
        return keep_matrix(scores, ratio)

    def fields(self, subject: Subject, layers: Sequence[Layer], context: Context) -> Fields:
        """Gradients on the domain, and general importance."""
        from graphprune.prune.masks.domain import importance
        from graphprune.statistics.sites import find_maskable

        other = context.against_general(self.name)
        found = gradient_fields(subject, layers, context, MOMENTS, self.name)
        stream = streamed(subject, find_maskable(subject.model, subject.sizes), other.calibration, other.run)
        general = importance(layers, stream, self.general_ratio, self.damping, other.run.progress)
        return lambda layer: {**found(layer), "general": general[layer.name]}
