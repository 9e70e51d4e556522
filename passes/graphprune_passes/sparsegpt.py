"""SparseGPT (arXiv 2301.00774): choose a mask column by column, and let the later columns make up for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Calibrated, Needs
from graphprune.prune.masks import scores
from graphprune.prune.masks.patterns import Keep, Scores, read_pattern
from graphprune.prune.masks.sweep import sweep

if TYPE_CHECKING:
    from graphprune.ir.arrays import Doubles
    from graphprune.prune.masks.layers import Layer
    from graphprune.prune.masks.treat import Moments


@dataclass(frozen=True)
class Sparsegpt(Calibrated):
    """Sets weights to zero and updates the others so that the layer's output changes little; shapes stay."""

    name: ClassVar[str] = "sparsegpt"
    needs: ClassVar[Needs] = "grams"

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """Wanda's, for budget=owl; the sweep has its own."""
        return scores.wanda(weight, squares)

    def solve(self, layer: Layer, matrix: Singles, known: Moments, ratio: float) -> tuple[Singles, Keep]:
        """The sweep, for every block of columns."""
        pattern = read_pattern(self.pattern)
        swept = [
            sweep(block, gram, ratio, pattern, self.damping)
            for block, gram in zip(matrix, known.gram, strict=True)
        ]
        return np.stack([weights for weights, _ in swept]), np.stack([keep for _, keep in swept])
