"""GAPrune (arXiv 2509.10844): weights stay that a domain needs more than all else, and like it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Fields, Masking, Needs, gradient_fields
from graphprune.pipeline.passes import Context, Subject, argument
from graphprune.prune.gradients import Reading
from graphprune.prune.masks.allocate import keep_global
from graphprune.prune.masks.patterns import Keep, Scores, keep_matrix, removed_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphprune.prune.masks.layers import Layer
    from graphprune.prune.masks.treat import Moments

READINGS = (Reading("mean"), Reading("square"))


@dataclass(frozen=True)
class Gaprune(Masking):
    """Sets weights to zero that a domain needs no more than all else does; shapes stay."""

    name: ClassVar[str] = "gaprune"
    needs: ClassVar[Needs] = "nothing"

    budget: Literal["global", "uniform"] = argument("uniform", "the least of every layer, or of all layers")
    alpha: float = argument(0.2, "weight of the alignment of both gradients, row by row")
    beta: float = argument(0.1, "weight of what all else needs; 1 in the paper")
    gamma: float = argument(0.5, "weight of magnitude")
    fisher: Literal["root", "mean", "raw"] = argument(
        "root", "mean squared gradients as they are, over their mean, or their roots over the mean root"
    )
    min_keep: float = argument(0.05, "budget=global: share of every layer that stays in any case")

    def __post_init__(self) -> None:
        super().__post_init__()
        for label in ("alpha", "beta", "gamma"):
            value = getattr(self, label)
            if not 0 <= value < math.inf:
                raise ArgumentError(f"{label} must be a number from 0 up, got {value}")
        if not 0 <= self.min_keep <= 1:
            raise ArgumentError(f"min-keep must be in [0, 1], got {self.min_keep}")

    @property
    def needs_torch(self) -> str:
        """The gradients."""
        return self.name

    def scores(self, matrix: Singles, known: Moments) -> Scores:
        """Domain alignment importance, made comparable over layers."""
        return self._scored(matrix, known.fields).reshape(-1, matrix.shape[-1])

    def select(self, scores: Scores, ratio: float) -> Keep:
        """All weights of a layer compete."""
        return keep_matrix(scores, ratio)

    def fields(self, subject: Subject, layers: Sequence[Layer], context: Context) -> Fields:
        """Gradients on the domain and on all else."""
        other = context.against_general(self.name)
        domain = gradient_fields(subject, layers, context, READINGS, self.name)
        general = gradient_fields(subject, layers, other, READINGS, self.name)
        return lambda layer: {
            **domain(layer),
            **{f"general {what}": values for what, values in general(layer).items()},
        }

    def fixed(
        self, layers: Sequence[Layer], ratio: float, context: Context, fields: Fields | None
    ) -> dict[str, Keep]:
        """Under budget=global all layers are ranked together."""
        if self.budget != "global" or not layers or fields is None:
            return {}
        sizes = [layer.size for layer in layers]
        reserved = [math.ceil(size * self.min_keep) for size in sizes]
        wanted, most = removed_count(sum(sizes), ratio), sum(sizes) - sum(reserved)
        if wanted > most:
            context.fall_short(f"ratio={ratio:g} cannot be met with min-keep={self.min_keep:g}")
        makers = [lambda layer=layer: self._scored(layer.matrix(), fields(layer)) for layer in layers]
        masks = keep_global(makers, min(wanted, most), reserved)
        return {layer.name: keep for layer, keep in zip(layers, masks, strict=True)}

    def _scored(self, matrix: Singles, fields: Mapping[str, Singles]) -> Scores:
        from graphprune.prune.masks.domain import Terms, domain_alignment, squashed

        terms = Terms(self.alpha, self.beta, self.gamma, self.fisher)
        return squashed(domain_alignment(matrix, fields, terms))
