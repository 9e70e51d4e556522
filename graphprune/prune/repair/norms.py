"""Re-estimates BatchNormalization behind a cut (docs/methods.md#re-estimated-batchnormalization)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.nodes import input_of
from graphprune.statistics.measures import Vector

LEAST, MOST = 0.25, 4.0
"""Bounds on the factor of a variance: beyond them it is a dead channel, or one that came to life."""


def statistics_of(norm: ir.Node) -> tuple[ir.Value | None, ...]:
    """Stored mean and variance: equal for a norm that is applied more than once."""
    return tuple(norm.inputs[3:5])


def refreshed(alike: Sequence[ir.Node], dense: Vector, pruned: Vector) -> dict[str, Array]:
    """Mean and variance that do behind the cut what the stored ones did before it, by initializer.

    Stored statistics come from the whole training set; a small calibration set only says how they change.
    So the change is applied to them: with nothing cut they stay exactly as they are.

    Args:
        alike: nodes that read the same statistics.
        dense: sums of what they normalise, all together.
        pruned: the same behind the cut.
    """
    norm = alike[0]
    mean, variance = (_stored(norm, position, len(alike)) for position in (3, 4))
    if mean is None or variance is None:
        return {}
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(dense.variance > 0, pruned.variance / dense.variance, 1.0)
    factor = np.clip(factor, LEAST, MOST)
    old_mean, old_variance = mean.astype(np.float64), variance.astype(np.float64)
    new_mean = pruned.mean + (old_mean - dense.mean) * np.sqrt(factor)
    new_variance = np.maximum((old_variance + epsilon) * factor - epsilon, 0.0)
    names = [(norm.inputs[position], array) for position, array in ((3, new_mean), (4, new_variance))]
    return {
        value.name or "": array.astype(mean.dtype)
        for value, array in names
        if value is not None and np.isfinite(array).all()
    }


def _stored(norm: ir.Node, position: int, readers: int) -> Array | None:
    """A statistic that no other nodes read."""
    value = input_of(norm, position)
    if value is None or value.const_value is None or len(value.uses()) > readers:
        return None
    return np.asarray(value.const_value.numpy())
