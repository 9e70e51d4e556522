"""Samples as training sees them: shuffled, mixed and blurred in ways that need no knowledge of the data.

Every draw is a function of the seed and its number alone, so that a run can go on where another was stopped,
and the dense model's answer to a draw is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.axes.caches import cache_pairs
from graphprune.ir.arrays import Array
from graphprune.ops import has
from graphprune.ops.traits import Trait

Feed = Mapping[str, Array]
NOISE = 0.5
"""Most noise, in standard deviations of the input."""
NOISY = 0.5
"""Chance that a draw gets noise; all are mixed with another where they can be."""
PICTURE = 4
"""Axes of pictures: samples, channels, rows, columns."""
MARKS = 2
"""An input with no more different values is a mask."""

MOVED = (Trait.COPY, Trait.CAST, Trait.RESHAPE, Trait.TRANSPOSE)
"""What may be between ids that come as floats and whole numbers."""


@dataclass(frozen=True)
class Draws:
    """Training samples, and what is drawn from them.

    Args:
        samples: feeds of the dense model, one sample each.
        free: inputs that may be mixed and blurred, with their standard deviation over all samples.
        mixes: whether every input that differs over samples is free, so that two samples have a mean.
        seed: of everything drawn.
        labels: of each sample, as a distribution over classes [samples, classes]; None where there are none.
        mirrored: whether half of the pictures (four axes) are mirrored left to right.
    """

    samples: Sequence[Feed]
    free: Mapping[str, float]
    mixes: bool
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
        return (share, other) if self.mixes and self.free and alike else (1.0, number)


def draws(
    model: ir.Model, samples: Sequence[Feed], seed: int, labels: Array | None = None, mirrored: bool = False
) -> Draws:
    """What may be drawn from samples of a model: ids, masks, lengths and states stay as they are."""
    kept = {value.name for value in cache_pairs(model.graph)}
    kept |= {value.name for value in model.graph.inputs if _is_counted(value)}
    varying = [name for name in samples[0] if _varies([feed[name] for feed in samples])]
    free = {
        name: spread
        for name in varying
        if name not in kept and (spread := _spread([feed[name] for feed in samples])) > 0
    }
    return Draws(samples, free, set(varying) == set(free), seed, labels, mirrored)


def _is_counted(value: ir.Value) -> bool:
    """Whether a graph reads whole numbers from a value, such as ids that come as floats."""
    for node, position in value.uses():
        if position or not has(node, *MOVED):
            continue
        found = node.outputs[0]
        if found.dtype is not None and found.dtype.is_integer():
            return True
        if _is_counted(found):
            return True
    return False


def _varies(arrays: Sequence[Array]) -> bool:
    return any(one.shape != arrays[0].shape or not np.array_equal(one, arrays[0]) for one in arrays[1:])


def _spread(arrays: Sequence[Array]) -> float:
    """The standard deviation of what may change a little; 0 where it may not."""
    if arrays[0].dtype.kind != "f" or not arrays[0].ndim:
        return 0.0
    seen: set[float] = set()
    for array in arrays:
        if not np.isfinite(array).all():
            return 0.0
        seen |= set(np.unique(array)[: MARKS + 1].tolist())
    if len(seen) <= MARKS:
        return 0.0
    return float(np.sqrt(np.mean([np.asarray(array, np.float64).var() for array in arrays])))
