"""All proto-level checks in their order."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphprune.errors import ModelError
from graphprune.ir.limits import Limits
from graphprune.ir.names import quote
from graphprune.ir.preflight.flow import Flow
from graphprune.ir.preflight.structure import Contents, Nodes, check_model, describe, require_text
from graphprune.ir.preflight.tensors import TensorCheck, sparse_parts


def check_proto(model: onnx.ModelProto, tensors: TensorCheck, limits: Limits) -> Flow:
    """Check a parsed model before any library that trusts it; whether its nodes are in order.

    Raises:
        ModelError: naming what is wrong.
    """
    contents = Contents.of(model.graph)
    check_model(model, contents.nodes, limits)
    flow = Flow(limits.max_depth)
    flow.check_main(model.graph)
    for function in model.functions:
        flow.check_function(function)
        _check_node_tensors(Contents.of_nodes(function.node).nodes, tensors)
    for graph in contents.graphs:
        for tensor in graph.initializer:
            tensors.check(tensor)
        for sparse in graph.sparse_initializer:
            for part in sparse_parts(sparse):
                tensors.check(part)
    _check_node_tensors(contents.nodes, tensors)
    return flow


def graphs(main: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and all graphs below it."""
    return Contents.of(main).graphs


def _check_node_tensors(nodes: Nodes, tensors: TensorCheck) -> None:
    for node in nodes:
        if not node.attribute:
            continue
        names: set[str] = set()
        for attribute in node.attribute:
            name = attribute.name
            require_text(name, attribute.ref_attr_name, attribute.doc_string)
            if name in names:
                raise ModelError(f"{describe(node)} has attribute {quote(name)} twice")
            names.add(name)
            for tensor in _attribute_tensors(attribute):
                tensors.check(tensor)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("sparse_tensor"):
        yield from sparse_parts(attribute.sparse_tensor)
    for sparse in attribute.sparse_tensors:
        yield from sparse_parts(sparse)
