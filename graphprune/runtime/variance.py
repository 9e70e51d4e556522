"""How much an output varies over samples, one after the other: what a squared error is a share of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphprune.ir.arrays import Doubles

ELEMENTS = 1 << 24
"""Larger outputs vary about one mean per index of the last axis, not about one per element."""


@dataclass(eq=False)
class Variance:
    """Sums of squares about a mean that is learned on the way (Welford), sample by sample.

    Every element has its own mean where all samples have one shape, else every index of the last axis, else
    there is one for all.
    """

    loose: bool = False
    mean: Doubles | None = None
    weight: float = 0.0
    parts: list[float] = field(default_factory=list)
    flat: list[float] = field(default_factory=list)
    energy: float = 0.0

    def add(self, values: Doubles) -> None:
        """One sample; its share is (y - mean before) (y - mean after)."""
        values = values.reshape(-1) if values.ndim == 0 else values
        self.energy += float((values**2).sum())
        self.flat.append(float(((values - values.mean()) ** 2).sum()) if values.size else 0.0)
        axes = self._axes(values)
        own = values.mean(axis=axes, keepdims=True) if values.size else np.zeros((1,) * values.ndim)
        count = values.size / max(1, own.size)
        before = own if self.mean is None else _averaged(self.mean, own.shape)
        self.weight += count
        step = (own - before) * (count / max(1.0, self.weight))
        apart = values - before
        self.parts.append(float((apart * (apart - step)).sum()))
        self.mean = before + step

    def _axes(self, values: Doubles) -> tuple[int, ...]:
        """What a mean is taken over."""
        every = tuple(range(values.ndim))
        for axes in ((), every[:-1], every):
            shape = tuple(1 if axis in axes else size for axis, size in enumerate(values.shape))
            fine = not axes and (self.loose or values.size > ELEMENTS)
            if not fine and (self.mean is None or _averages(self.mean.shape, shape)):
                return axes
        return every

    def shares(self) -> list[float]:
        """Of the variance, per sample; a single sample varies about the mean of its own elements."""
        count = len(self.parts)
        if count == 1:
            return self.flat
        return [part * count / (count - 1) for part in self.parts]  # the mean is of the same samples


def _averages(fine: tuple[int, ...], coarse: tuple[int, ...]) -> bool:
    """Whether means of one shape are means of the other, averaged further."""
    return len(fine) == len(coarse) and all(two in (1, one) for one, two in zip(fine, coarse, strict=True))


def _averaged(mean: Doubles, shape: tuple[int, ...]) -> Doubles:
    if not _averages(mean.shape, shape):
        return np.full(shape, mean.mean())
    axes = tuple(axis for axis, size in enumerate(shape) if size != mean.shape[axis])
    return np.asarray(mean.mean(axis=axes, keepdims=True))
