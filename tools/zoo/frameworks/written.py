"""What a framework's exporter left: inputs, and what the framework itself computes for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
SEED = 0


@dataclass(frozen=True)
class Written:
    """Inputs in the order of the graph's inputs, and the main output of the framework for them."""

    inputs: tuple[Array, ...]
    expected: Array


def normal(*shape: int) -> NDArray[np.float32]:
    """Reproducible random input."""
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
