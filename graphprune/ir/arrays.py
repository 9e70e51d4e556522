"""Types of numpy arrays, named by their elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]
"""By name."""
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
"""Numbers of things: slots, units, atoms."""
Ints = npt.NDArray[np.int64]
"""Sizes and counts."""
Floats = npt.NDArray[np.floating]
"""Floating numbers of any width."""
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]
"""One number per unit; the highest stay."""
