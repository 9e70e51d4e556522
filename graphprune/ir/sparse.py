"""Initializers as sparse tensors, on request, where that makes the file smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

from graphprune.ir.swap import Tensor

MIN_OPSET, MIN_IR = 11, 6
_INDEX_BYTES = 8
_MIN_ELEMENTS = 1024
_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


def worthwhile(model: ir.Model) -> frozenset[str]:
    """Initializers of the main graph that take fewer bytes as coordinates and values.

    A float32 and its int64 coordinate take 12 bytes instead of 4: two thirds have to be zero.
    """
    if (model.opset_imports.get("") or 0) < MIN_OPSET or model.ir_version < MIN_IR:
        return frozenset()
    return frozenset(_names(model.graph))


def _names(graph: ir.Graph) -> Iterator[str]:
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _TYPES or tensor.size < _MIN_ELEMENTS:
            continue
        if value.is_graph_input() or value.is_graph_output():
            continue
        count = int(np.count_nonzero(tensor.numpy()))
        if 0 < count * (tensor.dtype.itemsize + _INDEX_BYTES) < tensor.nbytes:
            yield name


def sparsify(
    graph: onnx.GraphProto, names: frozenset[str], original: Callable[[onnx.TensorProto], Tensor]
) -> None:
    """Move these initializers to the sparse ones, in place; their dense values are asked for one by one."""
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    moved = [tensor for tensor in graph.initializer if tensor.name in names]
    for stub in moved:
        graph.sparse_initializer.append(_coordinates(stub, np.asarray(original(stub).numpy())))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _coordinates(stub: onnx.TensorProto, array: np.ndarray) -> onnx.SparseTensorProto:
    flat = array.reshape(-1)
    at = np.flatnonzero(flat).astype(np.int64)
    result = onnx.SparseTensorProto(dims=stub.dims)
    result.values.CopyFrom(onnx.numpy_helper.from_array(flat[at], stub.name))
    result.indices.CopyFrom(onnx.numpy_helper.from_array(at, f"{stub.name}_indices"))
    return result
