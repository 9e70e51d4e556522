"""Sample inputs from an npz file or arrays, checked against the graph's inputs and split into batches."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError, did_you_mean
from graphprune.ir.names import escape

Feed = dict[str, np.ndarray]

BATCH = 32
"""Rows per batch where the graph leaves the batch size open."""
_LIMIT = 8 * 2**30


def read_npz(path: Path) -> Feed:
    """The arrays of an npz file.

    Raises:
        DataError: the file is unreadable, is not an npz of plain arrays, or unpacks to more than 8 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(item.file_size for item in archive.infolist())
        if total > _LIMIT:
            raise DataError(f"'{path}' unpacks to {total} bytes, more than {_LIMIT}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, NotImplementedError, MemoryError) as error:
        hint = "write it with numpy.savez(file, input_name=array, ...)"
        raise DataError(f"'{path}' is not an npz file of plain arrays: {error}", hint) from None


def batches(arrays: Mapping[str, np.ndarray], model: ir.Model, where: str) -> tuple[Feed, ...]:
    """One feed per batch: rows are stacked along the first dimension of every array.

    Raises:
        DataError: names, types or shapes do not fit the inputs of the graph.
    """
    values = {
        value.name or "": value for value in model.graph.inputs if value.name not in model.graph.initializers
    }
    for name in arrays:
        if name not in values:
            hint = did_you_mean(name, values)
            raise DataError(f"{where} holds '{escape(name)}', which is not an input of the model", hint)
    for name in values:
        if name not in arrays:
            raise DataError(
                f"{where} has no array for the input '{escape(name)}'", f"it holds: {', '.join(arrays)}"
            )
    cast = {name: _fit(name, np.asarray(arrays[name]), value, where) for name, value in values.items()}
    return tuple(_split(cast, values, where))


def _fit(name: str, array: np.ndarray, value: ir.Value, where: str) -> np.ndarray:
    shape = value.shape
    if shape is not None:
        dims = [dim if isinstance(dim, int) else None for dim in shape]
        fits = len(dims) == array.ndim and all(
            d in (None, n) for d, n in zip(dims[1:], array.shape[1:], strict=True)
        )
        if not fits:
            wanted = "x".join("?" if dim is None else str(dim) for dim in dims)
            got = "x".join(map(str, array.shape))
            raise DataError(f"'{escape(name)}' in {where} has shape {got}, the model wants {wanted}")
    wanted_type = value.dtype.numpy() if value.dtype is not None else array.dtype
    if array.dtype == wanted_type:
        return array
    if not np.can_cast(array.dtype, wanted_type, casting="same_kind"):
        raise DataError(
            f"'{escape(name)}' in {where} is {array.dtype}, the model wants {np.dtype(wanted_type)}"
        )
    return array.astype(wanted_type)


def _split(arrays: Feed, values: Mapping[str, ir.Value], where: str) -> Iterable[Feed]:
    rows = {array.shape[0] for array in arrays.values() if array.ndim}
    if not rows:
        return [arrays] if arrays else []
    fixed = {dim for dim in (_first_dim(values[name]) for name in arrays) if dim is not None}
    if len(rows) > 1 or len(fixed) > 1:
        # Inputs without a common batch dimension cannot be cut: they are one sample, if they fit as they are.
        if all(_first_dim(values[n]) in (None, a.shape[0]) for n, a in arrays.items() if a.ndim):
            return [arrays]
        raise DataError(f"arrays of {where} have different numbers of rows: {sorted(rows)}")
    count = rows.pop()
    step = fixed.pop() if fixed else min(BATCH, count)
    if count == 0 or step == 0 or count < step:
        raise DataError(f"{where} holds {count} rows, and the model takes {step} at a time")
    # A last batch that is too short for a fixed batch size is left out; an open one takes it as it is.
    stop = count - count % step if any(_first_dim(values[name]) for name in arrays) else count
    return [
        {name: array[at : at + step] if array.ndim else array for name, array in arrays.items()}
        for at in range(0, stop, step)
    ]


def _first_dim(value: ir.Value) -> int | None:
    if value.shape is None or len(value.shape) == 0:
        return None
    first = value.shape[0]
    return first if isinstance(first, int) else None
