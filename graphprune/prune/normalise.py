"""Makes scores of different Groups comparable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from graphprune.ir.arrays import Doubles

Normaliser = Literal["auto", "mean", "z", "robust", "max", "sum", "none"]
CAP = 0.99
"""Quantile of scores above which `robust` counts them as outliers."""


def _over(level: Callable[[Doubles], float]) -> Callable[[Doubles], Doubles]:
    def divide(values: Doubles) -> Doubles:
        by = float(level(values))
        return np.asarray(values / by) if 0 < by < np.inf else values

    return divide


def _standard(values: Doubles) -> Doubles:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / spread) if spread > 0 else np.zeros_like(values)


def _robust(values: Doubles) -> Doubles:
    """Standardised by mean and spread of scores with outliers capped.

    In language models one neuron can hold nearly all of a layer's variance. Plainly standardised, all others
    score about the same there, just below zero, and stay, whatever they do.
    """
    usual = np.minimum(values, np.quantile(values, CAP))
    spread = float(usual.std())
    return np.asarray((values - usual.mean()) / spread) if spread > 0 else _standard(values)


NORMALISERS: dict[str, Callable[[Doubles], Doubles]] = {
    "mean": _over(np.mean),
    "max": _over(np.max),
    "sum": _over(np.sum),
    "z": _standard,
    "robust": _robust,
    "none": lambda values: values,
}


def normalised(values: Doubles, how: str) -> Doubles:
    """One number per Unit: normalised over the Group, then averaged over the columns of each Unit."""
    found = NORMALISERS[how](values)
    return found if found.ndim == 1 else np.asarray(found.mean(axis=1))
