"""GBLM-Pruner (arXiv 2311.04902): small weights go that are seldom fed and that the loss hardly feels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Singles
from graphprune.pipeline.masking import Calibrated, Fields, Needs, gradient_fields
from graphprune.pipeline.passes import Context, Subject, argument
from graphprune.prune.gradients import Reading
from graphprune.prune.masks.patterns import Scores
from graphprune.prune.masks.scores import wanda

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphprune.ir.arrays import Doubles
    from graphprune.prune.masks.layers import Layer
    from graphprune.prune.masks.treat import Moments

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Gblm(Calibrated):
    """Sets weights to zero by weight times the norm of input and gradient, row by row; shapes stay."""

    name: ClassVar[str] = "gblm"
    needs: ClassVar[Needs] = "vectors"

    alpha: float = argument(1.0, "what the gradient counts beside the input; 0 is wanda")
    norm: Literal["l2", "l1"] = argument("l2", "norm over samples of the gradient")
    relative: bool = argument(True, "divide both by their mean over the matrix; false as in the paper")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < float("inf"):
            raise ArgumentError(f"alpha must be a number from 0 up, got {self.alpha}")

    @property
    def needs_torch(self) -> str:
        """The gradients."""
        return self.name

    def score(self, weight: Singles, squares: Doubles) -> Scores:
        """Wanda's, for budget=owl."""
        return wanda(weight, squares)

    def scores(self, matrix: Singles, known: Moments) -> Scores:
        """|W| times the sum of both."""
        inputs = np.sqrt(known.squares)[:, None]
        slopes = known.fields["gradient"].astype(np.float64)
        if self.relative:
            inputs /= max(float(inputs.mean()), TINY)
            slopes /= max(float(slopes.mean()), TINY)
        felt = np.abs(matrix) * (inputs + self.alpha * slopes)
        return np.asarray(felt.reshape(-1, matrix.shape[-1]), np.float32)

    def fields(self, subject: Subject, layers: Sequence[Layer], context: Context) -> Fields:
        """Norms of gradients over samples, times the root of their number, by which inputs are divided."""
        from graphprune.runtime.holding import count

        reading = Reading("square" if self.norm == "l2" else "absolute")
        found = gradient_fields(subject, layers, context, [reading], self.name)
        samples = count(context.calibration, subject.model)

        def norms(layer: Layer) -> dict[str, Singles]:
            (mean,) = found(layer).values()
            if self.norm == "l2":
                return {"gradient": samples * np.sqrt(mean)}
            return {"gradient": np.float32(samples**1.5) * mean}

        return norms
