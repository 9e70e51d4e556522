"""Labels of calibration samples, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphprune.errors import DataError
from graphprune.ir.arrays import Array
from graphprune.ir.names import quote


def read(path: Path, samples: int) -> Array:
    """The class of every sample, [samples].

    Raises:
        DataError: the file does not hold one whole number per sample.
    """
    from graphprune.runtime.data import read_arrays

    arrays = read_arrays(path)
    if len(arrays) != 1:
        raise DataError(
            f"{quote(str(path))} holds {len(arrays)} arrays", "labels are one array, one number per sample"
        )
    (array,) = arrays.values()
    found = np.asarray(array).reshape(-1)
    if found.dtype.kind not in "iu":
        raise DataError(
            f"{quote(str(path))} holds {found.dtype}", "labels are whole numbers: the class of each sample"
        )
    if len(found) != samples:
        raise DataError(
            f"{quote(str(path))} holds {len(found)} labels, the calibration data {samples} samples",
            "give one label for each sample, in the same order",
        )
    return found
