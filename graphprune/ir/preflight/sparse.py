"""Sparse tensors become dense ones, because onnx_ir would drop them without a word."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.numpy_helper

from graphprune.errors import ModelError
from graphprune.ir.names import quote

_MAX_DENSE_ELEMENTS = 2**28


def densify(graph: onnx.GraphProto) -> None:
    """Move sparse initializers and sparse Constants of one graph into dense tensors, in place.

    Raises:
        ModelError: indices and values do not fit the shape, or the dense tensor would be too big.
    """
    for sparse in graph.sparse_initializer:
        graph.initializer.append(dense(sparse))
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                tensor = dense(attribute.sparse_tensor)
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(tensor)


def dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """One sparse tensor with its zeros written out."""
    name = quote(str(sparse.values.name))
    dims = list(sparse.dims)
    if not dims or min(dims) <= 0 or math.prod(dims) > _MAX_DENSE_ELEMENTS:
        raise ModelError(f"sparse tensor {name} of shape {dims} is empty or too big to make dense")
    values = onnx.numpy_helper.to_array(sparse.values)
    flat = _flat_indices(onnx.numpy_helper.to_array(sparse.indices), dims, values.size, name)
    array = np.zeros(math.prod(dims), dtype=values.dtype)
    array[flat] = values.reshape(-1)
    return onnx.numpy_helper.from_array(array.reshape(dims), name=sparse.values.name)


def _flat_indices(indices: np.ndarray, dims: list[int], count: int, name: str) -> np.ndarray:
    if indices.dtype != np.int64 or indices.shape not in ((count,), (count, len(dims))):
        raise ModelError(f"sparse tensor {name}: {count} values, indices of shape {list(indices.shape)}")
    bounds = np.array([math.prod(dims)] if indices.ndim == 1 else dims)
    if np.any(indices < 0) or np.any(indices >= bounds):
        raise ModelError(f"sparse tensor {name} has an index outside its shape {dims}")
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
    if np.any(np.diff(flat) <= 0):
        raise ModelError(f"sparse tensor {name} has indices that are not sorted or appear twice")
    return flat
