"""Samples with a little noise, which no model has learnt by heart.

A model is surer of what it was trained on than of anything else, and samples to calibrate on often are such:
what a cut loses on them is less than it loses later. With a fifth of the spread that each number has over
samples they are new to the model, and its answers are hardly different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphprune.ir.arrays import Doubles
from graphprune.pipeline.samples import Judging
from graphprune.runtime.free import free_inputs

if TYPE_CHECKING:
    import onnx_ir as ir

NOISE = 0.2
"""Noise, in standard deviations that each number has over samples."""
SEED = 0


@dataclass(frozen=True)
class Blurred(Judging):
    """Samples with noise.

    Attributes:
        spreads: of each number of inputs that have some, over samples.
    """

    spreads: Mapping[str, Doubles | float] = field(default_factory=dict)

    def feeds(self, size: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """So many samples at a time; the noise of a sample is always the same."""
        for number, feed in enumerate(super().feeds(size)):
            rng = np.random.default_rng([SEED, number])
            for name, spread in self.spreads.items():
                array = feed[name]
                noise = NOISE * spread * rng.standard_normal(array.shape)
                feed[name] = (array + noise).astype(array.dtype)
            yield feed


def blurred(judging: Judging, model: ir.Model) -> Judging | None:
    """The same samples with noise on inputs that may have some; None where none may.

    Args:
        judging: samples.
        model: that takes them.
    """
    feeds = list(judging.feeds())
    free, _ = free_inputs(model, feeds)
    if not free:
        return None
    spreads = {name: _spread([feed[name] for feed in feeds], whole) for name, whole in free.items()}
    return Blurred(judging.sets, judging.source, judging.model, judging.numbers, spreads)


def _spread(arrays: Sequence[np.ndarray], whole: float) -> Doubles | float:
    """Of each number over samples; of all numbers where samples differ in size."""
    if any(array.shape != arrays[0].shape for array in arrays):
        return whole
    middle = sum(array.astype(np.float64) for array in arrays) / len(arrays)
    return np.asarray(np.sqrt(sum((array - middle) ** 2 for array in arrays) / len(arrays)))
