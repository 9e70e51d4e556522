"""Constant nodes become initializers while they are still protobuf, before each costs a node."""

from __future__ import annotations

import onnx

from graphprune.ir.nodes import is_literal

_INITIALIZERS_STAND_ALONE = 4
"""Since this IR version an initializer need not be a graph input as well."""


def lift_constants(model: onnx.ModelProto) -> None:
    """Turn the Constants of a checked main graph into initializers of the same names, in place and in order.

    Stops at the first Constant of another form than a tensor: `normalise` lifts that one and those after it,
    so that initializers keep their order. Constants that are graph outputs stay.
    """
    if model.ir_version < _INITIALIZERS_STAND_ALONE:
        return
    graph = model.graph
    outputs = {value.name for value in graph.output}
    nodes = list(graph.node)
    lifted: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if not is_literal(node) or node.output[0] in outputs:
            continue
        if not _holds_tensor(node):
            break
        lifted[node.output[0]] = index
    for name, index in lifted.items():
        tensor = graph.initializer.add()
        tensor.CopyFrom(nodes[index].attribute[0].t)
        tensor.name = name
    gone = set(lifted.values())
    del graph.node[:]
    graph.node.extend(node for index, node in enumerate(nodes) if index not in gone)
    if graph.value_info:
        known = [info for info in graph.value_info if info.name not in lifted]
        del graph.value_info[:]
        graph.value_info.extend(known)


def _holds_tensor(node: onnx.NodeProto) -> bool:
    """Whether the node is nothing but a tensor with a name."""
    if node.input or len(node.output) != 1 or len(node.attribute) != 1:
        return False
    attribute = node.attribute[0]
    kinds = onnx.AttributeProto
    return attribute.name == "value" and attribute.type == kinds.TENSOR and attribute.HasField("t")
