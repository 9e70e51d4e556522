"""Samples as training sees them: shuffled, mixed and blurred in ways that need no knowledge of the data.

Every draw is a function of the seed and its number alone, so that a run can go on where another was stopped,
and the dense model's answer to a draw is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.runtime.free import free_inputs

Feed = Mapping[str, Array]
NOISE = 0.5
"""Most noise, in standard deviations of the input."""
NOISY = 0.5
"""Chance that a draw gets noise."""
MIXED = 0.5
"""Chance that a draw is mixed with another: mixtures alone are learnt at the cost of samples."""
PICTURE = 4
"""Axes of pictures: samples, channels, rows, columns."""


@dataclass(frozen=True)
class Draws:
    """Training samples, and what is drawn from them.

    Args:
        samples: feeds of the dense model, one sample each.
        free: inputs that may be mixed and blurred, with their standard deviation over all samples.
        mixed: share of the draws that are a mean of two samples; 0 where an input that differs is not free.
        seed: of everything drawn.
        labels: of each sample, as a distribution over classes [samples, classes]; None where there are none.
        mirrored: whether half of the pictures (four axes) are mirrored left to right.
    """

    samples: Sequence[Feed]
    free: Mapping[str, float]
    mixed: float
    seed: int
    labels: Array | None = None
    mirrored: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def order(self, epoch: int) -> list[int]:
        """Numbers of all samples, shuffled."""
        return [*map(int, np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.samples)))]

    def draw(self, epoch: int, number: int) -> dict[str, Array]:
        """A sample as this epoch shows it."""
        share, other = self._mixture(epoch, number)
        rng = np.random.default_rng([self.seed, epoch, 2, number])
        feed, another = dict(self.samples[number]), self.samples[other]
        sigma = NOISE * rng.random() if rng.random() < NOISY else 0.0
        mirror = self.mirrored and rng.random() < 0.5
        for name, spread in self.free.items():
            array = np.asarray(feed[name], np.float32)
            if share < 1:
                array = share * array + (1 - share) * np.asarray(another[name], np.float32)
            if mirror and array.ndim == PICTURE:
                array = array[..., ::-1]
            if sigma:
                array = array + sigma * spread * rng.standard_normal(array.shape, np.float32)
            feed[name] = np.asarray(array, feed[name].dtype)
        return feed

    def label(self, epoch: int, number: int) -> Array:
        """The label of that draw, mixed alike."""
        assert self.labels is not None
        share, other = self._mixture(epoch, number)
        mixed: Array = share * self.labels[number] + (1 - share) * self.labels[other]
        return mixed

    def _mixture(self, epoch: int, number: int) -> tuple[float, int]:
        """The share of a sample in a draw, and the sample that has the rest."""
        rng = np.random.default_rng([self.seed, epoch, 3, number])
        share, other = float(rng.random()), int(rng.integers(len(self.samples)))
        one, two = self.samples[number], self.samples[other]
        alike = all(one[name].shape == two[name].shape for name in self.free)
        return (share, other) if self.free and alike and rng.random() < self.mixed else (1.0, number)


def draws(
    model: ir.Model,
    samples: Sequence[Feed],
    seed: int,
    labels: Array | None = None,
    mirrored: bool = False,
    mixed: bool = True,
) -> Draws:
    """What may be drawn from samples of a model: ids, masks, lengths and states stay as they are."""
    free, mixes = free_inputs(model, samples)
    return Draws(samples, free, MIXED if mixes and mixed else 0.0, seed, labels, mirrored)
