"""Ratios of sums over samples with 95 % intervals: paired, because every sum is taken sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphprune.ir.arrays import Doubles

TAIL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, its standard error, and the number of samples that it rests on."""

    value: float
    low: float
    high: float
    error: float
    samples: int


def ratio(part: Sequence[float], whole: Sequence[float], jumps: bool = False) -> Estimate | None:
    """sum(part) / sum(whole) over samples; None where there is nothing to divide by.

    The standard error is that of a ratio (linearised: residuals part - ratio x whole), the interval is
    Student's. Where `part` counts (it `jumps`), samples without any would have an interval of no width: its
    upper end is then that of one more sample with a count of one, close to the 3 / n of the rule of three.
    """
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    total = float(wholes.sum())
    if not total > 0:
        return None
    value, error = _ratio(parts, wholes)
    reach = quantile(len(parts)) * error
    low, high = value - reach, value + reach
    if jumps:
        more, wider = _ratio(np.append(parts, 1.0), np.append(wholes, total / len(wholes)))
        high = max(high, more + quantile(len(parts) + 1) * wider)
    return Estimate(value, low, high, error, len(parts))


def difference(one: Sequence[float], other: Sequence[float], whole: Sequence[float]) -> tuple[float, float]:
    """sum(one - other) / sum(whole) and its standard error: two ratios on the same samples."""
    apart = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return _ratio(apart, np.asarray(whole, np.float64))


def gap_of_ratios(
    one: tuple[Sequence[float], Sequence[float]], other: tuple[Sequence[float], Sequence[float]]
) -> tuple[float, float]:
    """The difference of two ratios (parts, wholes) on the same samples, and its standard error."""
    values, rests = [], []
    for part, whole in (one, other):
        parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
        total = max(float(wholes.sum()), np.finfo(np.float64).tiny)
        values.append(float(parts.sum()) / total)
        rests.append((parts - values[-1] * wholes) / total)
    apart, count = rests[0] - rests[1], len(rests[0])
    return values[0] - values[1], math.sqrt(count / max(1, count - 1) * float(apart @ apart))


def _ratio(parts: Doubles, wholes: Doubles) -> tuple[float, float]:
    count, total = len(parts), float(wholes.sum())
    value = float(parts.sum()) / total
    if count < 2 or not math.isfinite(value):
        return value, math.inf
    rest = parts - value * wholes
    return value, math.sqrt(count / (count - 1) * float(rest @ rest)) / total


def quantile(samples: int) -> float:
    """How many standard errors a 95 % interval reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(samples - 1, TAIL)) if samples > 1 else math.inf


def relative(estimate: Estimate) -> Estimate:
    """1 - exp(-d) of a growth d of the mean negative log-likelihood."""
    value, low, high = (
        -math.expm1(-max(0.0, each)) for each in (estimate.value, estimate.low, estimate.high)
    )
    return Estimate(value, low, high, estimate.error * (1 - value), estimate.samples)


def within(estimate: Estimate) -> Estimate:
    """Ends of an interval within [0, 1]; what is no number is as bad as can be."""
    low, value, high = (
        min(1.0, max(0.0, each)) if each == each else other
        for each, other in ((estimate.low, 0.0), (estimate.value, 1.0), (estimate.high, 1.0))
    )
    return replace(estimate, value=value, low=min(low, value), high=max(high, value))
