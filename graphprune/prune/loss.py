"""What the outputs of a candidate lose, as one number that adds up over small changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graphprune.axes.outputs import Judged, judged
from graphprune.ir.arrays import Array, Doubles
from graphprune.prune.divergence import Judge, Scale, Target, kl
from graphprune.runtime.gaps import distribution
from graphprune.runtime.session import Feeds, Outputs

SOFTNESS = 4.0
"""Temperature at which distributions are compared."""
CERTAIN = 1e-7
"""Probabilities nearer to 0 or 1 are taken as this near: float32 tells them no further apart."""


class Loss(Judge):
    """What the outputs of a candidate lose.

    Classes and scores lose T^2 times the Kullback-Leibler divergence from the dense ones at temperature
    T; all else loses its squared error as a share of the dense variance, at most 1; several outputs
    count alike. A model that is sure of nearly every sample says by its own probabilities nothing but
    how it does on the few others, while softened ones (arXiv 1503.02531) tell on all samples by how
    much a cut shifts them.
    """

    def lost(self, run: Callable[[Feeds], Outputs]) -> float:
        """The sum over outputs."""
        return sum(self.losses(run).values())

    def _read(self, model: ir.Model) -> tuple[Target, ...]:
        return told(model)

    def _part(self, scale: Scale, dense: Array, other: Array) -> Doubles:
        one, two = dense.astype(np.float64), other.astype(np.float64)
        if scale == "numbers":
            return np.array([np.sum((one - two) ** 2), np.sum((one - one.mean()) ** 2)])
        soft = [softened(each, scale) for each in (one, two)]
        return np.array([SOFTNESS**2 * kl(*soft).sum(), len(soft[0])])

    @staticmethod
    def _total(scale: Scale, sums: Doubles) -> float:
        value = float(sums[0] / max(sums[1], 1e-300))
        most = 1.0 if scale == "numbers" else np.inf
        return min(value, most) if np.isfinite(value) else most


def told(model: ir.Model) -> tuple[Target, ...]:
    """Outputs that lose by degrees: neither whole numbers nor strings."""
    return tuple(Target(each.name, _scale(each), each.axis) for each in judged(model) if each.kind != "exact")


def softened(rows: Doubles, scale: Scale) -> Doubles:
    """Distributions at a temperature, [rows, classes]; of scores each number is one, of two classes."""
    if scale == "scores":
        kept = np.clip(rows.reshape(-1, 1), CERTAIN, 1 - CERTAIN)
        rows = np.log(np.concatenate([kept, 1 - kept], axis=1))
    elif scale != "logits":
        assert scale != "numbers"
        rows = np.log(np.maximum(distribution(rows, scale), CERTAIN))
    return distribution(rows / SOFTNESS, "logits")


def _scale(each: Judged) -> Scale:
    if each.kind == "scores":
        return "scores"
    return "numbers" if each.kind == "values" else each.scale
