"""Samples from the user's files, checked against the model and cut into batches."""

from __future__ import annotations

import shlex
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError, did_you_mean
from graphprune.ir.arrays import Arrays
from graphprune.ir.fixed import NOTHING
from graphprune.ir.names import quote
from graphprune.ir.nearby import nearby
from graphprune.ir.paths import is_folder
from graphprune.runtime.dimensions import data_inputs
from graphprune.runtime.indices import outside

FORMATS = "an .npz (keys = input names), an .npy (models with one input), or a folder of either"
SEPARATE = "the names of .npy files in a folder are names of inputs"
STACKED = "write one .npz per sample, or one .npy with all samples along its first dimension"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Suffixes of pictures, which `calibrate` reads."""
BYTE_CAP = 2**34  # uncompressed bytes of one file: a guard against decompression bombs


def load_inputs(path: Path, model: ir.Model, fixed: Arrays = NOTHING) -> list[dict[str, np.ndarray]]:
    """Read samples for a model; each item feeds every input and is what `batches` takes.

    A .npz gives one item, keys are input names. A .npy gives one item for a model with one input. A
    folder gives one item per .npz in it, in order of name, or one item made of its .npy files, whose
    names are input names.

    Raises:
        DataError: the path holds nothing usable, or an array's name, type or shape does not fit.
    """
    sets = [checked(arrays, model, repr(str(source)), fixed) for source, arrays in _read(path, model)]
    if not sets:
        raise DataError(f"{str(path)!r} holds no samples", _pictures(path) or f"give {FORMATS}")
    return sets


@dataclass(frozen=True)
class Layout:
    """How arrays split into samples.

    Attributes:
        axes: the axis of each array that splits, by name: the leading one, or, for a state such as
            [layers, batch, hidden], the one that goes with it. Other arrays, such as a sampling rate,
            belong to every sample.
        count: samples.
        step: rows of one sample.
        stacked: whether each row is a whole feed, with one axis more than its input.
        fixed: whether the model takes exactly `step` rows at a time.
    """

    axes: Mapping[str, int]
    count: int
    step: int = 1
    stacked: bool = False
    fixed: bool = False

    def take(self, arrays: Arrays, start: int, count: int = 1) -> dict[str, np.ndarray]:
        """Some samples, with what belongs to every sample."""
        return self._of(arrays, slice(start * self.step, (start + count) * self.step))

    def pick(self, arrays: Arrays, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        """The samples of these numbers, copied, with what belongs to every sample."""
        rows = np.asarray(numbers, np.int64)[:, None] * self.step + np.arange(self.step)
        return self._of(arrays, rows.ravel())

    def _of(self, arrays: Arrays, rows: slice | np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: array[(slice(None),) * self.axes[name] + (rows,)] if name in self.axes else array
            for name, array in arrays.items()
        }


def layout(arrays: Arrays, model: ir.Model) -> Layout:
    """Find the samples in one item of `load_inputs`.

    Raises:
        DataError: the inputs disagree on how many there are.
    """
    inputs = {value.name or "": value for value in model.graph.inputs}
    stacked = {name: len(array) for name, array in arrays.items() if array.ndim > _rank(inputs[name])}
    if stacked:
        return Layout(dict.fromkeys(stacked, 0), _same(stacked, "stacked samples"), stacked=True)
    rows = {name: len(array) for name, array in arrays.items() if _splits(inputs[name], array)}
    fixed = {name: _fixed_rows(inputs[name]) for name in rows}
    sizes = {count for count in fixed.values() if count is not None}
    if not rows or (len(set(rows.values())) > 1 and not sizes):
        return Layout({}, 1)
    step = min(sizes, default=1)
    count = _same(rows, "rows")
    axes = dict.fromkeys(rows, 0) | ({} if sizes else _inner(arrays, inputs, rows, count))
    return Layout(axes, count // step, step, fixed=bool(sizes))


def _inner(
    arrays: Arrays, inputs: Mapping[str, ir.Value], rows: Mapping[str, int], count: int
) -> dict[str, int]:
    """The sample axis of arrays whose leading axis is a fixed part of each sample.

    It is an open axis under the name that the leading axes have or, where exporters gave no names,
    one of the same size.
    """
    symbols = {_dim(inputs[name], 0) for name in rows}
    found = {}
    for name in arrays.keys() - rows.keys():
        open_axes = [axis for axis in range(1, arrays[name].ndim) if _open(inputs[name], axis)]
        named = [axis for axis in open_axes if _dim(inputs[name], axis) in symbols - {None}]
        guessed = [axis for axis in open_axes if None in symbols | {_dim(inputs[name], axis)} and count > 1]
        for axis in named or guessed:
            if arrays[name].shape[axis] == count:
                found[name] = axis
                break
    return found


def _open(value: ir.Value, axis: int) -> bool:
    return value.shape is not None and not isinstance(value.shape[axis], int)


def _dim(value: ir.Value, axis: int) -> str | None:
    """The name of an open dimension, None where it has none."""
    dim = value.shape[axis] if value.shape is not None else None
    return dim.value if isinstance(dim, ir.SymbolicDim) else None


def batches(arrays: Arrays, model: ir.Model, size: int = 32) -> Iterator[dict[str, np.ndarray]]:
    """Cut one item of `load_inputs` into feeds.

    An array with one axis more than its input is a stack of feeds. Otherwise, where the leading axis
    of the input is open, rows are taken `size` at a time (the last feed may be shorter), and where it
    is fixed, as many as it says (a rest that does not fill a feed is dropped). Arrays that do not
    take part, such as a sampling rate, go into every feed.
    """
    found = layout(arrays, model)
    if not found.axes:
        yield dict(arrays)
    elif found.stacked:
        for index in range(found.count):
            # A sample of a scalar input is an array, too, which ONNX Runtime insists on.
            yield {n: np.asarray(array[index]) if n in found.axes else array for n, array in arrays.items()}
    else:
        several = 1 if found.fixed else size
        for start in range(0, found.count, several):
            yield found.take(arrays, start, several)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or the one of an .npy under "".

    Raises:
        DataError: the file cannot be read, or is too large.
    """
    return _npz(path) if path.suffix == ".npz" else {"": _npy(path)}


def _read(path: Path, model: ir.Model) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
    if is_folder(path):
        files = sorted(path.iterdir())
        packed = [file for file in files if file.suffix == ".npz"]
        plain = {file.stem: file for file in files if file.suffix == ".npy"}
        for file in packed:
            yield file, _npz(file)
        if plain and not packed:
            inputs = {value.name for value in model.graph.inputs}
            if not inputs & plain.keys():
                raise DataError(f"{str(path)!r}: {SEPARATE}, and the model has no {min(plain)!r}", STACKED)
            yield path, {name: _npy(file) for name, file in plain.items()}
    elif path.suffix == ".npz":
        yield path, _npz(path)
    elif path.suffix == ".npy":
        names = [value.name or "" for value in data_inputs(model)]
        if len(names) != 1:
            raise DataError(f"{str(path)!r} is one array for {len(names)} inputs", f"give {FORMATS}")
        yield path, {names[0]: _npy(path)}
    else:
        require_regular(path)
        raise DataError(f"{str(path)!r} is not a sample file", f"give {FORMATS}")


def _pictures(path: Path) -> str:
    """The line that reads pictures; empty where there are none."""
    if not is_folder(path) or not any(file.suffix.lower() in PICTURES for file in path.rglob("*")):
        return ""
    line = f"graphprune calibrate MODEL {shlex.quote(str(path))} -o samples.npz"
    return f"pictures become samples by {line}"


def _npz(path: Path) -> dict[str, np.ndarray]:
    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > BYTE_CAP:
            raise DataError(f"{str(path)!r} unpacks to {size} bytes, the limit is {BYTE_CAP}")
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _unreadable(path, error, "write it with numpy.savez") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{str(path)!r}: {name!r} holds no array", "write it with numpy.savez")
    return found


def _npy(path: Path) -> np.ndarray:
    require_regular(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error, "write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{str(path)!r} is an archive, not an array", "name it .npz")
    return array


def _unreadable(path: Path, error: Exception, hint: str) -> DataError:
    """What numpy or zipfile says of a file, in words of its own only where they tell something."""
    if "pickle" in str(error) or "Python objects" in str(error):
        reason, hint = (
            "it holds Python objects, which are not read",
            "convert them to numbers before you save them",
        )
    else:
        reason = str(error) or "it ends too early"
    return DataError(f"cannot read {str(path)!r}: {reason}", hint)


def require_regular(path: Path) -> None:
    """Refuse what would block (pipes) or never end (devices) before opening it."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {str(path)!r}: {reason}", nearby(path)) from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{str(path)!r} is not a regular file")


def checked(arrays: Arrays, model: ir.Model, source: str, fixed: Arrays = NOTHING) -> dict[str, np.ndarray]:
    """Arrays for every input, in its type; those of weights and fixed inputs are compared and left out.

    Raises:
        DataError: a name, type or shape does not fit the model, or there is a NaN.
    """
    inputs = {value.name or "": value for value in model.graph.inputs}
    for name in sorted(arrays.keys() & fixed.keys()):
        _require_same(arrays[name], fixed[name], f"{source}: {name!r}")
    arrays = {name: array for name, array in arrays.items() if name not in fixed}
    for name in arrays:
        if name not in inputs:
            raise DataError(f"{source}: the model has no input {name!r}", did_you_mean(name, inputs))
    missing = [value.name or "" for value in data_inputs(model) if value.name not in arrays]
    if missing:
        held = ", ".join(arrays) or "nothing"
        raise DataError(f"{source}: there is no array for the input {missing[0]!r}", f"given: {held}")
    found = {name: _fitting(array, inputs[name], f"{source}: {name!r}") for name, array in arrays.items()}
    for name, array in found.items():
        _require_rows(array, inputs[name], f"{source}: {name!r}", layout(found, model))
    return found


def _require_rows(array: np.ndarray, value: ir.Value, where: str, split: Layout) -> None:
    """Refuse what looks up rows that a table does not have, such as tokens of another vocabulary."""
    wrong = outside(value, array)
    if wrong is None:
        return
    at, rows, table = wrong
    axis = split.axes.get(value.name or "")
    number = None if axis is None else int(np.unravel_index(at, array.shape)[axis]) // split.step
    sample = "" if number is None else f" in sample {number}"
    message = f"{where} holds {array.flat[at]}{sample}; it looks up {quote(table)} in a table of {rows} rows"
    raise DataError(message, f"give values from 0 to {rows - 1}, such as those of the model's own tokenizer")


def _require_same(array: np.ndarray, fixed: np.ndarray, where: str) -> None:
    """A sample may hold what is constant, if it holds what the model does, once or per sample."""
    tail = array.shape[array.ndim - fixed.ndim :]
    if array.ndim < fixed.ndim or tail != fixed.shape or not (array == fixed).all():
        hint = "leave it out of the samples: it is a weight, or was fixed"
        raise DataError(f"{where} is not what the model itself holds under this name", hint)


def _fitting(array: np.ndarray, value: ir.Value, where: str) -> np.ndarray:
    """The array in the input's type, after its shape was checked."""
    if array.size == 0:
        raise DataError(f"{where} is empty, shape {array.shape}")
    if not _shape_fits(array.shape, value):
        declared = "?" if value.shape is None else f"({', '.join(_symbol(dim) for dim in value.shape)})"
        raise DataError(
            f"{where} has shape {array.shape}, the input is {declared}",
            "the leading axis may also stack samples; all others must match",
        )
    if array.dtype.kind == "f" and np.isnan(array.min()):  # which is NaN where anything is
        raise DataError(f"{where} holds NaN", "no model is calibrated or checked on what is not a number")
    if value.dtype is None:
        return array
    if value.dtype == ir.DataType.STRING:
        if array.dtype.kind not in "US":
            raise DataError(f"{where} holds {array.dtype}, the input wants strings")
        return array.astype(object)
    return _converted(array, np.dtype(value.dtype.numpy()), where)


def _converted(array: np.ndarray, wanted: np.dtype, where: str) -> np.ndarray:
    """Convert between floats, and between integers where no value changes; nothing else."""
    if array.dtype == wanted:
        return array
    if array.dtype.kind == "f" and wanted.kind in "fV":
        return array.astype(wanted)
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        converted = array.astype(wanted)
        if np.array_equal(converted, array):
            return converted
    hint = "convert and scale it before you save it"
    raise DataError(f"{where} holds {array.dtype}, the input wants {wanted}", hint)


def _shape_fits(shape: tuple[int, ...], value: ir.Value) -> bool:
    if value.shape is None:
        return True
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
    if len(shape) == len(dims) + 1:
        return _tail_fits(shape[1:], dims)
    if len(shape) != len(dims):
        return False
    if not dims or not _tail_fits(shape[1:], dims[1:]):
        return not dims
    return dims[0] is None or shape[0] >= dims[0]


def _tail_fits(shape: Sequence[int], dims: Sequence[int | None]) -> bool:
    return all(dim is None or dim == size for size, dim in zip(shape, dims, strict=True))


def _symbol(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else dim.value or "?"


def _rank(value: ir.Value) -> int:
    return 64 if value.shape is None else len(value.shape)


def _fixed_rows(value: ir.Value) -> int | None:
    size = value.shape[0] if value.shape is not None and len(value.shape) else None
    return size if isinstance(size, int) and size > 0 else None


def _splits(value: ir.Value, array: np.ndarray) -> bool:
    """Whether the leading axis holds samples, rather than being a fixed part of one."""
    if value.shape is None or len(value.shape) == 0:
        return False
    fixed = _fixed_rows(value)
    return fixed is None or len(array) > fixed


def _same(counts: Mapping[str, int], what: str) -> int:
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise DataError(f"the inputs disagree on the number of {what}: {text}")
    return next(iter(counts.values()))
