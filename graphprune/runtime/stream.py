"""Samples that Python gives: arrays, tensors, loaders and generators, read once and kept within bounds."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.fixed import NOTHING
from graphprune.runtime.data import BYTE_CAP
from graphprune.runtime.dimensions import data_inputs

MEMORY = 2**28
"""Bytes of samples that stay in memory; more go to a file without a name, which the system pages in."""
TOGETHER = 32
"""Single samples that become one batch."""
ACCEPTED = (
    "a path, an array or tensor, a dict of input name to array, or an iterable of these, such as a "
    "torch DataLoader"
)
Item = Mapping[str, Array] | tuple[Array, ...]
"""One set of samples: by name of the input, or in the order of the inputs."""
_ALIGNED = 64


@dataclass(frozen=True)
class Items:
    """Sets of samples, and the argument that they were given as."""

    called: str
    sets: tuple[Item, ...]


def gather(data: object, called: str) -> Path | Items | None:
    """What was given as samples, with everything that is no file read into arrays; an iterator is used up.

    Args:
        data: what ACCEPTED says.
        called: the argument that it was given as.

    Raises:
        DataError: it is something else, or more than fits.
    """
    if data is None:
        return None
    if isinstance(data, str | os.PathLike):
        return Path(data)
    if isinstance(data, Mapping) or _is_array(data):
        return Items(called, (_item(data, called),))
    if not isinstance(data, Iterable | Sequence) and not hasattr(data, "__getitem__"):
        raise DataError(f"{called} is {type(data).__name__}", f"give {ACCEPTED}")
    store = Store(called)
    for each in cast("Iterable[object]", data):
        store.put(_item(each, called))
    return Items(called, tuple(store.sets()))


def named(items: Items, model: ir.Model) -> Iterator[tuple[str, dict[str, Array]]]:
    """Sets of arrays by name of a model's inputs, each with what messages call it.

    Samples that come one by one, without an axis that counts them, are stacked.

    Raises:
        DataError: there are fewer arrays than inputs.
    """
    singles: list[dict[str, Array]] = []
    for number, item in enumerate(items.sets):
        arrays, single = _with_axis(_by_name(item, model, items.called), model)
        if singles and (not single or _form(singles[0]) != _form(arrays) or len(singles) == TOGETHER):
            yield items.called, _joined(singles)
            singles = []
        if single:
            singles.append(arrays)
        else:
            yield (f"{items.called}[{number}]" if len(items.sets) > 1 else items.called), arrays
    if singles:
        yield items.called, _joined(singles)


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "detach")


def _item(given: object, called: str) -> Item:
    """One set as arrays; of a tuple only the arrays that come first, for labels may be anything."""
    if isinstance(given, Mapping):
        return {str(name): _array(each, f"{called}[{str(name)!r}]") for name, each in given.items()}
    if isinstance(given, tuple | list) and given and _is_array(given[0]):
        return tuple(_array(each, called) for each in given if _is_array(each))
    return (_array(given, called),)


def _array(value: object, called: str) -> Array:
    try:
        array = np.asarray(_in_memory(value))
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype == object and not all(isinstance(each, str) for each in array.ravel()):
        raise DataError(f"{called} holds {type(value).__name__}, which is no array", f"give {ACCEPTED}")
    return array


class _Tensor(Protocol):
    """What is asked of a tensor of torch, which need not be installed."""

    dtype: object

    def detach(self) -> _Tensor:
        """Without its gradient."""
        ...

    def cpu(self) -> _Tensor:
        """In the memory of the machine."""
        ...

    def float(self) -> _Tensor:
        """In single precision."""
        ...


def _in_memory(value: object) -> object:
    """A tensor where numpy can read it; all else as it is."""
    if not hasattr(value, "detach"):
        return value
    tensor = cast(_Tensor, value).detach().cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def _by_name(item: Item, model: ir.Model, called: str) -> dict[str, Array]:
    if isinstance(item, Mapping):
        return dict(item)
    names = [value.name or "" for value in data_inputs(model)]
    if len(item) < len(names):
        count = "one array" if len(item) == 1 else f"{len(item)} arrays"
        example = ", ".join(f"{name!r}: ..." for name in names)
        raise DataError(f"{called} holds {count} for {len(names)} inputs", f"give a dict: {{{example}}}")
    return dict(zip(names, item, strict=False))


def _with_axis(arrays: dict[str, Array], model: ir.Model) -> tuple[dict[str, Array], bool]:
    """Arrays with an axis that counts samples, and whether they are one sample that had none."""
    ranks = {value.name: len(value.shape) for value in data_inputs(model) if value.shape is not None}
    single = {name for name, array in arrays.items() if 0 < array.ndim + 1 == ranks.get(name, 0)}
    counted = {name for name in arrays if ranks.get(name, 0) > 0}
    if not single or single != counted:
        return arrays, False
    return {name: array[None] if name in single else array for name, array in arrays.items()}, True


def _form(arrays: Mapping[str, Array]) -> list[tuple[str, tuple[int, ...], np.dtype[np.generic]]]:
    return [(name, array.shape, array.dtype) for name, array in arrays.items()]


def _joined(singles: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    first = singles[0]
    return {
        name: np.concatenate([each[name] for each in singles]) if array.ndim else array
        for name, array in first.items()
    }


@dataclass(frozen=True)
class _Place:
    """Where an array lies in the file."""

    start: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def view(self, data: mmap.mmap | bytes) -> Array:
        """The array, not copied."""
        count = int(np.prod(self.shape))
        return np.frombuffer(data, self.dtype, count, self.start).reshape(self.shape)


@dataclass
class Store:
    """Copies of sets of arrays: the first MEMORY bytes in memory, all others in a file.

    The file has no name, so that nothing is left of it whatever happens.

    Args:
        called: what messages call the samples.
    """

    called: str = "the samples"
    taken: int = 0
    _kept: list[dict[str | int, Array | _Place]] = field(default_factory=list)
    _file: BinaryIO | None = None

    def put(self, item: Item) -> None:
        """Keep a copy of a set: a loader may use its arrays again.

        Raises:
            DataError: there are more bytes than BYTE_CAP, or the disk is full.
        """
        pairs = item.items() if isinstance(item, Mapping) else enumerate(item)
        self._kept.append({key: self._one(array, copied=True) for key, array in pairs})
        if self.taken > BYTE_CAP:
            hint = "take some of it, e.g. itertools.islice(loader, 16): a few hundred samples are enough"
            raise DataError(f"{self.called} holds more than {BYTE_CAP >> 30} GiB", hint)

    def hold(self, arrays: Arrays, known: Arrays = NOTHING) -> None:
        """Keep arrays that were just made; those of `known` are somebody's already, and stay where they are.

        Raises:
            DataError: the disk is full.
        """
        self._kept.append(
            {key: array if array is known.get(key) else self._one(array) for key, array in arrays.items()}
        )

    def sets(self) -> Iterator[Item]:
        """What was kept, in its order."""
        for arrays in self._found():
            yield tuple(arrays.values()) if any(isinstance(key, int) for key in arrays) else _names(arrays)

    def arrays(self) -> list[dict[str, Array]]:
        """The same where all have names."""
        return [_names(arrays) for arrays in self._found()]

    def _found(self) -> Iterator[dict[str | int, Array]]:
        data = self._mapped()
        for kept in self._kept:
            yield {
                key: each if isinstance(each, np.ndarray) else each.view(data) for key, each in kept.items()
            }

    def _one(self, array: Array, copied: bool = False) -> Array | _Place:
        self.taken += array.nbytes
        if self.taken <= MEMORY or array.dtype == object or not array.nbytes:
            return array.copy() if copied else array
        return self._filed(array)

    def _filed(self, array: Array) -> _Place:
        try:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="graphprune-"))  # noqa: SIM115
            start = -(-self._file.tell() // _ALIGNED) * _ALIGNED
            self._file.seek(start)
            self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise DataError(f"{self.called} cannot be kept in '{folder}': {error.strerror}") from None
        return _Place(start, array.dtype, array.shape)

    def _mapped(self) -> mmap.mmap | bytes:
        if self._file is None:
            return b""
        self._file.flush()
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)


def _names(arrays: Mapping[str | int, Array]) -> dict[str, Array]:
    return {str(name): array for name, array in arrays.items()}
