"""Wanda (arXiv 2306.11695): of every output the inputs with the least weight times norm go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Calibrated, Needs
from graphprune.prune.masks import scores
from graphprune.prune.masks.patterns import Scores

if TYPE_CHECKING:
    from graphprune.ir.arrays import Doubles


@dataclass(frozen=True)
class Wanda(Calibrated):
    """Sets weights to zero that are small or seldom fed, row by row; shapes stay."""

    name: ClassVar[str] = "wanda"
    needs: ClassVar[Needs] = "vectors"

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """|W| times the norm of the input."""
        return scores.wanda(weight, squares)
