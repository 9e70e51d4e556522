"""Weights that are denormal floats, which some processors multiply far slower, and others as all else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Bools, Floats

SINGLE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types of weights that processors multiply as they are."""
MANY = 1e-3
"""Share of denormal weights that may be felt."""
FELT = 1.03
"""Times as fast as before from which on it is."""


@dataclass(frozen=True)
class Denormals:
    """Weights of a model that are denormal.

    Attributes:
        count: of them; 0 where they are a few at most.
        gain: how many times as fast the model is without them, as measured.
    """

    count: int = 0
    gain: float = 1.0

    @property
    def felt(self) -> bool:
        """Whether the model is faster without them."""
        return self.count > 0 and self.gain >= FELT


NO_DENORMALS = Denormals()


def many(model: ir.Model) -> int:
    """How many denormal weights there are; 0 where they are a few at most."""
    found = list(_weights(model))
    count = sum(int(np.count_nonzero(_denormal(array))) for _, array in found)
    return count if count >= MANY * sum(array.size for _, array in found) else 0


def without(model: ir.Model) -> ir.Model:
    """The same with zeros in their place."""
    clean = model.clone()
    for name, array in _weights(model):
        if _denormal(array).any():
            zeroed = np.where(_denormal(array), array.dtype.type(0), array)
            clean.graph.initializers[name].const_value = ir.tensor(zeroed, name=name)
    return clean


def _weights(model: ir.Model) -> Iterator[tuple[str, Floats]]:
    for name, value in model.graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype in SINGLE:
            yield name, value.const_value.numpy()


def _denormal(array: Floats) -> Bools:
    return np.asarray((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny))
