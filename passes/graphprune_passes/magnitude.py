"""Magnitude masks: the smallest weights go, of all layers together with a floor for each, or per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Fields, Masking, Needs
from graphprune.pipeline.passes import Context, argument
from graphprune.prune.masks import scores
from graphprune.prune.masks.allocate import keep_global
from graphprune.prune.masks.patterns import Keep, Scores, keep_matrix, removed_count

if TYPE_CHECKING:
    from graphprune.ir.arrays import Doubles
    from graphprune.prune.masks.layers import Layer


@dataclass(frozen=True)
class Magnitude(Masking):
    """Sets the weights of smallest magnitude to zero; shapes stay."""

    name: ClassVar[str] = "magnitude"
    needs: ClassVar[Needs] = "nothing"

    min_keep: float = argument(0.05, "budget=global: share of every layer that stays in any case")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_keep <= 1:
            raise ArgumentError(f"min-keep must be in [0, 1], got {self.min_keep}")

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """|W|."""
        return scores.magnitude(weight)

    def select(self, scores: Scores, ratio: float) -> Keep:
        """All weights of a layer compete."""
        return keep_matrix(scores, ratio)

    def fixed(
        self, layers: Sequence[Layer], ratio: float, context: Context, fields: Fields | None
    ) -> dict[str, Keep]:
        """Under budget=global: reserve the largest of every layer, remove the least of the rest."""
        if self.budget != "global" or not layers:
            return {}
        sizes = [layer.size for layer in layers]
        reserved = [math.ceil(size * self.min_keep) for size in sizes]
        wanted, most = removed_count(sum(sizes), ratio), sum(sizes) - sum(reserved)
        if wanted > most:
            context.fall_short(
                f"ratio={ratio:g} cannot be met: min-keep={self.min_keep:g} lets only {most} weights go",
                "lower min-keep or the ratio",
            )
        makers = [lambda layer=layer: scores.magnitude(layer.matrix()) for layer in layers]
        masks = keep_global(makers, min(wanted, most), reserved)
        return {layer.name: keep for layer, keep in zip(layers, masks, strict=True)}
