"""Tensors whose bytes stay in the file they came from."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.element import is_packed


class Written(Protocol):
    """Where bytes go."""

    def write(self, data: memoryview, /) -> int:
        """Appends them."""


@dataclass(frozen=True)
class Span:
    """Where the bytes of a tensor lie in a file."""

    path: Path
    offset: int
    length: int


class MappedTensor(ir.LazyTensor):
    """A weight that reads its bytes from a memory map when asked, and serialises as embedded data.

    Payloads in a protobuf file start at any byte; `numpy()` copies those that are not aligned for their
    type, because kernels that get the array by pointer rely on alignment.
    """

    def __init__(
        self,
        data: mmap.mmap,
        span: tuple[int, int],
        dtype: ir.DataType,
        shape: ir.Shape,
        name: str,
        path: Path,
    ) -> None:
        super().__init__(self._read, dtype, shape, name=name)
        self._map = data
        self._span = span
        self.path = path
        self._file = _identity(path)

    @property
    def span(self) -> Span | None:
        """Where another reader finds the same bytes; None once that file is another."""
        start, end = self._span
        path = self.path.resolve()
        return Span(path, start, end - start) if self._file and _identity(path) == self._file else None

    @property
    def view(self) -> memoryview:
        """The bytes in the file, not copied."""
        start, end = self._span
        return memoryview(self._map)[start:end]

    def tobytes(self) -> bytes:
        """A copy of the bytes as ONNX stores them."""
        return bytes(self.view)

    def tofile(self, file: Written) -> None:
        """Write the bytes without copying them through Python."""
        file.write(self.view)

    def _read(self) -> ir.TensorProtocol:
        if is_packed(self.dtype):
            return ir.PackedTensor(np.frombuffer(self.view, np.uint8), self.dtype, shape=self.shape)
        array = self.in_file()
        if not array.flags.aligned:
            array = array.copy()
            array.flags.writeable = False
        return ir.Tensor(array, dtype=self.dtype, shape=self.shape)

    def in_file(self) -> Array:
        """The elements (of a byte or more) where they lie in the file, not aligned more often than not."""
        # ONNX files are little-endian, as is every machine that ONNX Runtime supports.
        return np.frombuffer(self.view, self.dtype.numpy()).reshape(self.shape.numpy())


class FiledTensor(ir.ExternalTensor):
    """A weight in a file beside the model, which knows whether that is still the file that was checked."""

    def __init__(
        self,
        path: Path,
        base: Path,
        span: tuple[int, int],
        dtype: ir.DataType,
        shape: ir.Shape,
        name: str,
    ) -> None:
        start, nbytes = span
        location = os.path.relpath(path, base)
        super().__init__(location, start, nbytes, dtype, shape=shape, name=name, base_dir=base)
        self._where = path
        self._seen = _identity(path)

    @property
    def span(self) -> Span | None:
        """Where another reader finds the same bytes; None once that file is another."""
        path = self._where.resolve()
        same = self._seen and _identity(path) == self._seen
        return Span(path, self.offset or 0, self.nbytes) if same else None


def _identity(path: Path) -> tuple[int, ...]:
    """What changes with the content of a file, or when its name gets another; nothing where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def in_place(tensor: ir.TensorProtocol) -> Array:
    """`tensor.numpy()` without the copy of what is not aligned; for numpy to read, never for a pointer."""
    if isinstance(tensor, MappedTensor) and not is_packed(tensor.dtype):
        return tensor.in_file()
    return np.asarray(tensor.numpy())
