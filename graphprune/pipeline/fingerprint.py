"""Hashes: of a model its structure, which a plan depends on, and its weights, which it does not."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.element import is_packed
from graphprune.ir.graphs import graphs_of
from graphprune.ir.mapped import in_place


def structure(model: ir.Model) -> str:
    """A hash of operators, names, types, shapes and attributes: equal for two checkpoints of one graph."""
    digest = hashlib.sha256()
    for line in _lines(model):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def weights(model: ir.Model) -> str:
    """A hash of every initializer's bits; a change detector, not a seal against forgery."""
    digest = hashlib.sha256()
    for graph in graphs_of(model):
        for name in sorted(graph.initializers):
            tensor = graph.initializers[name].const_value
            if tensor is not None:
                # crc32 streams a mapped file at memory speed; sha256 alone would dominate a big compile.
                digest.update(f"{name}:{_checksum(tensor)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _checksum(tensor: ir.TensorProtocol) -> int:
    if tensor.dtype == ir.DataType.STRING:
        return zlib.crc32(repr(tensor.numpy().tolist()).encode())
    if is_packed(tensor.dtype):
        return zlib.crc32(tensor.tobytes())
    array = in_place(tensor)
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def _lines(model: ir.Model) -> Iterator[str]:
    yield from (f"opset {domain} {version}" for domain, version in sorted(model.opset_imports.items()))
    for graph in graphs_of(model):
        yield f"graph {len(graph)}"
        yield from (f"input {_typed(value)}" for value in graph.inputs)
        yield from (f"output {value.name}" for value in graph.outputs)
        yield from (f"initializer {_typed(graph.initializers[name])}" for name in sorted(graph.initializers))
        for node in graph:
            yield from _node(node)


def _typed(value: ir.Value) -> str:
    return f"{value.name} {value.dtype} {value.shape}"


def _node(node: ir.Node) -> Iterator[str]:
    inputs = [value.name if value is not None else "" for value in node.inputs]
    yield f"node {node.domain}:{node.op_type} {inputs} {[value.name for value in node.outputs]}"
    for name in sorted(node.attributes):
        yield f"attribute {name} {_attribute(node.attributes[name])}"


def _attribute(attribute: ir.Attr) -> str:
    kind = attribute.type
    if kind in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return str(kind)  # its nodes are listed with the graph they form
    if kind == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return f"{tensor.dtype} {tensor.shape} {_checksum(tensor)}"
    return f"{kind} {attribute.value!r}"
