"""Token ids in a file as a pool of windows for a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, DataError
from graphprune.runtime.data import read_arrays, require_regular
from graphprune.runtime.dimensions import data_inputs
from graphprune.sampling.pool import Arrays, Pool

HINT = "give an .npy, .npz or .bin of integers"
TYPES = ("uint16", "int16", "uint32", "int32", "int64")


def token_pool(path: Path, model: ir.Model, window: int, stored: str = "uint16") -> Pool:
    """Windows of `window` ids, one after the other; what is left over at the end is dropped.

    Ids in rows [n, length] are cut row by row, so that no window crosses the end of a document.

    Args:
        path: an .npy or a one-array .npz of integers, or a .bin of bare integers.
        model: reads the ids, and may read a mask, positions and segment ids beside them.
        window: ids of one sample.
        stored: type of the integers in a .bin.

    Raises:
        DataError: the file holds no ids, or fewer than one window.
        ArgumentError: the model has inputs that ids do not determine.
    """
    if window < 2:
        raise ArgumentError(f"a window needs at least 2 tokens, got {window}")
    inputs = {value.name or "": value for value in data_inputs(model)}
    main = _main_input(inputs)
    windows = _windows(_read(path, stored), window, path)

    def take(numbers: Sequence[int]) -> Arrays:
        ids = np.asarray(windows[np.asarray(numbers, dtype=np.int64)], dtype=np.int64)
        if ids.size and ids.min() < 0:
            raise DataError(f"{str(path)!r} holds negative token ids")
        return {name: _filled(name, main, ids, value) for name, value in inputs.items()}

    return Pool(len(windows), take, f"windows of {window} tokens")


def _main_input(inputs: dict[str, ir.Value]) -> str:
    """The input that takes the ids."""
    free = [name for name in inputs if _companion(name) is None]
    if len(free) != 1:
        held = ", ".join(free) or "none"
        raise ArgumentError(f"token files need a model with one input for ids, found: {held}", "give an .npz")
    dtype = inputs[free[0]].dtype
    if dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        raise ArgumentError(f"the input {free[0]!r} does not take token ids", "give an .npz")
    return free[0]


def _companion(name: str) -> str | None:
    """What an input beside the ids holds, by the names that exporters give."""
    lower = name.lower()
    return next((word for word in ("mask", "position", "type") if word in lower), None)


def _filled(name: str, main: str, ids: np.ndarray, value: ir.Value) -> np.ndarray:
    made = {
        None: ids,
        "mask": np.ones_like(ids),
        "position": np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
        "type": np.zeros_like(ids),
    }[None if name == main else _companion(name)]
    return np.ascontiguousarray(made, dtype=(value.dtype or ir.DataType.INT64).numpy())


def _read(path: Path, stored: str) -> np.ndarray:
    if stored not in TYPES:
        raise ArgumentError(f"no token type '{stored}'", f"known: {', '.join(TYPES)}")
    require_regular(path)
    if path.suffix == ".bin":
        size = path.stat().st_size
        if size == 0 or size % np.dtype(stored).itemsize:
            raise DataError(f"{str(path)!r} has {size} bytes, which is no list of {stored}", HINT)
        return np.memmap(path, dtype=stored, mode="r")
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{str(path)!r} is no token file", HINT)
    arrays = list(read_arrays(path).values())
    if len(arrays) != 1 or arrays[0].dtype.kind not in "iu" or arrays[0].ndim not in (1, 2):
        raise DataError(f"{str(path)!r} does not hold one array of token ids", HINT)
    return arrays[0]


def _windows(ids: np.ndarray, window: int, path: Path) -> np.ndarray:
    """Rows of `window` ids."""
    each = ids.shape[-1] // window
    if each == 0 or math.prod(ids.shape) == 0:
        raise DataError(f"{str(path)!r} has no run of {window} tokens", "use a smaller --window")
    return np.asarray(ids[..., : each * window]).reshape(-1, window)
