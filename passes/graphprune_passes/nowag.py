"""NoWag-P (arXiv 2504.14569): squared weights, freed of row and column norms, times squared inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Calibrated, Needs
from graphprune.prune.masks import scores
from graphprune.prune.masks.patterns import Keep, Scores, keep_matrix

if TYPE_CHECKING:
    from graphprune.ir.arrays import Doubles


@dataclass(frozen=True)
class Nowag(Calibrated, driver="oneshot"):
    """Sets weights to zero that are small among their row and column, or seldom fed; shapes stay."""

    name: ClassVar[str] = "nowag"
    needs: ClassVar[Needs] = "vectors"

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """W'^2 times the squared norm of the input."""
        return scores.nowag(weight, squares)

    def select(self, scores: Scores, ratio: float) -> Keep:
        """All weights of a layer compete: their rows are normalised."""
        return keep_matrix(scores, ratio)
