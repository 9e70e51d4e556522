"""Activations between two segments, in memory up to a limit and in a temporary file beyond it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from typing import IO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
MEMORY_LIMIT = 2**28


class Held:
    """Arrays by (batch, name).

    Args:
        limit: bytes that are kept in memory.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._arrays: dict[int, dict[str, Array]] = {}
        self._limit = limit
        self._bytes = 0

    def __getitem__(self, batch: int) -> Mapping[str, Array]:
        """Everything held of a batch."""
        return self._arrays.get(batch, {})

    def put(self, batch: int, name: str, array: Array) -> None:
        """Keep an array."""
        if self._bytes + array.nbytes > self._limit:
            array = self._parked(array)
        else:
            self._bytes += array.nbytes
        self._arrays.setdefault(batch, {})[name] = array

    def drop(self, batch: int, names: Iterable[str]) -> None:
        """Forget arrays."""
        mine = self._arrays.get(batch, {})
        for name in names:
            array = mine.pop(name, None)
            if array is not None and not isinstance(array, np.memmap):
                self._bytes -= array.nbytes

    def _parked(self, array: Array) -> Array:
        if array.dtype == object or array.size == 0:
            return array
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- the map owns it; gone with the last view
        kept: Array = np.memmap(file, array.dtype, "w+", shape=array.shape)
        kept[...] = array
        return kept


def zeros(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Zeros that lie in a temporary file instead of memory."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- as above
    return np.memmap(file, np.float64, "w+", shape=shape)
