"""Every TensorProto says how many bytes it needs; these checks hold it to that, without reading them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.element import is_packed
from graphprune.ir.names import quote
from graphprune.ir.preflight.external import WeightFiles
from graphprune.ir.preflight.wire import Span

_MAX_RANK = 64
_MAX_PRODUCT = 2**48
# field -> the element types it holds, where raw_data is not used. onnx.proto3 is the source.
_FIELDS: dict[str, str] = {
    "float_data": "FLOAT COMPLEX64",
    "int32_data": "INT32 INT16 INT8 UINT16 UINT8 BOOL FLOAT16 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ "
    "FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0 UINT4 INT4 FLOAT4E2M1 UINT2 INT2 FLOAT6E2M3 FLOAT6E3M2",
    "int64_data": "INT64",
    "double_data": "DOUBLE COMPLEX128",
    "uint64_data": "UINT32 UINT64",
    "string_data": "STRING",
}
_DATA = (*_FIELDS, "raw_data")
_FIELD_OF = {dtype: field for field, dtypes in _FIELDS.items() for dtype in dtypes.split()}


@dataclass(frozen=True)
class Located:
    """A weight that is not in the proto: its file and the byte where it starts."""

    path: Path
    offset: int
    nbytes: int


@dataclass
class TensorCheck:
    """Checks tensors of one model; `payloads` are the spans that the wire pass cut out, each used once."""

    files: WeightFiles
    payloads: set[Span] = field(default_factory=set)
    cut: list[tuple[onnx.TensorProto, Span]] = field(default_factory=list)
    external: list[tuple[onnx.TensorProto, Located]] = field(default_factory=list)

    def check(self, tensor: onnx.TensorProto) -> None:
        """Hold one tensor to its dims and dtype.

        Raises:
            ModelError: naming the tensor and what is wrong with it.
        """
        elements = _elements(tensor)
        dtype = _dtype(tensor)
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        present = {field.name for field, _ in tensor.ListFields()}
        filled = [name for name in _DATA if name in present]
        span = self._span(tensor)
        if len(filled) + external + (span is not None) > 1:
            raise _bad(tensor, "stores its data in more than one way")
        if dtype == ir.DataType.STRING and (external or span or "raw_data" in filled):
            raise _bad(tensor, "holds strings as raw bytes")
        nbytes = math.ceil(elements * dtype.itemsize) if dtype != ir.DataType.STRING else 0
        if external:
            path, offset = self.files.check(tensor, nbytes)
            self.external.append((tensor, Located(path, offset, nbytes)))
        elif span is not None:
            self.cut.append((tensor, span))
            _require_bytes(tensor, span[1] - span[0], nbytes)
        elif "raw_data" in filled:
            _require_bytes(tensor, len(tensor.raw_data), nbytes)
        else:
            _check_field(tensor, dtype, elements, filled)

    def _span(self, tensor: onnx.TensorProto) -> Span | None:
        if not tensor.HasField("segment"):
            return None
        span = (tensor.segment.begin, tensor.segment.end)
        if span not in self.payloads:
            raise _bad(tensor, "is stored in segments, which no runtime supports")
        self.payloads.remove(span)
        return span


def sparse_parts(sparse: onnx.SparseTensorProto) -> Iterator[onnx.TensorProto]:
    """The two tensors inside a sparse one, neither of them external.

    Raises:
        ModelError: a part is external.
    """
    for part in (sparse.values, sparse.indices):
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise _bad(part, "is a sparse tensor with external data, which is not supported")
        yield part


def _bad(tensor: onnx.TensorProto, problem: str) -> ModelError:
    return ModelError(f"tensor {quote(str(tensor.name))} {problem}")


def _elements(tensor: onnx.TensorProto) -> int:
    if len(tensor.dims) > _MAX_RANK:
        raise _bad(tensor, f"has rank {len(tensor.dims)}, more than {_MAX_RANK}")
    dims = list(tensor.dims)
    if any(dim < 0 for dim in dims):
        raise _bad(tensor, f"has a negative dimension: {dims}")
    if math.prod(dim for dim in dims if dim) > _MAX_PRODUCT:
        raise _bad(tensor, f"has an impossible shape: {dims}")
    return math.prod(dims)


def _dtype(tensor: onnx.TensorProto) -> ir.DataType:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        raise _bad(tensor, f"has the unknown element type {tensor.data_type}") from None
    if dtype == ir.DataType.UNDEFINED:
        raise _bad(tensor, "has no element type")
    return dtype


def _require_bytes(tensor: onnx.TensorProto, actual: int, needed: int) -> None:
    if actual != needed:
        raise _bad(tensor, f"has {actual} bytes of data, its shape {list(tensor.dims)} needs {needed}")


def _check_field(tensor: onnx.TensorProto, dtype: ir.DataType, elements: int, filled: list[str]) -> None:
    expected = _FIELD_OF[dtype.name]
    if filled and filled != [expected]:
        raise _bad(tensor, f"is {dtype.name} but stores its data in {filled[0]}")
    stored = len(getattr(tensor, expected))
    needed = elements * 2 if dtype.name.startswith("COMPLEX") else elements
    # Types below a byte are packed, several to one stored number.
    packed = math.ceil(elements * dtype.itemsize) if is_packed(dtype) else needed
    if stored not in (needed, packed):
        raise _bad(tensor, f"has {stored} values, its shape {list(tensor.dims)} needs {needed}")
