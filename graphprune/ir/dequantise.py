"""Quantised weights as floats: a DequantizeLinear that reads only constants becomes what it computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphprune.ir.arrays import Array
from graphprune.ir.build import become, drop_unread
from graphprune.ir.domains import is_default
from graphprune.ir.graphs import graphs_of
from graphprune.ir.nodes import is_constant

REFERENCE = 19
"""The reference knows these operators from this opset on; what older ones may hold they compute alike."""


def dequantise(model: ir.Model) -> int:
    """Makes weights and biases behind DequantizeLinear floats, in place; returns how many there were.

    Activations keep their QuantizeLinear and DequantizeLinear. A weight that the graph itself quantises, as
    training with quantisation leaves it, becomes the floats that it is rounded to.
    """
    graphs = graphs_of(model)
    return sum(_dequantised(model, graph) for graph in graphs)


def _dequantised(model: ir.Model, graph: ir.Graph) -> int:
    found = [node for node in graph if _operator(node) == "DequantizeLinear" and _known(node.inputs[0], node)]
    for node in found:
        quantised = node.inputs[0]
        assert quantised is not None
        become(node, _computed(model, node))
        maker = quantised.producer()
        if maker is not None and not quantised.uses():
            graph.remove(maker, safe=True)
    drop_unread(graph)
    return len(found)


def _known(value: ir.Value | None, node: ir.Node) -> bool:
    """Whether codes, scale and zero point are constants, or constants that are quantised at once."""
    if any(other is not None and not is_constant(other) for other in node.inputs[1:]):
        return False
    maker = None if value is None else value.producer()
    if maker is None:
        return is_constant(value)
    return _operator(maker) == "QuantizeLinear" and all(v is None or is_constant(v) for v in maker.inputs)


def _operator(node: ir.Node) -> str:
    return node.op_type if is_default(node.domain) and not node.outputs[0].is_graph_output() else ""


def _computed(model: ir.Model, node: ir.Node) -> Array:
    """The floats, by the onnx package's own reference."""
    maker = None if node.inputs[0] is None else node.inputs[0].producer()
    nodes = [node] if maker is None else [maker, node]
    held = {value for each in nodes for value in each.inputs if value is not None and is_constant(value)}
    tensors = []
    for value in held:
        assert value.const_value is not None
        tensor = ir.to_proto(value.const_value)
        tensor.name = value.name or ""
        tensors.append(tensor)
    out = helper.make_value_info(node.outputs[0].name or "", helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph([ir.to_proto(each) for each in nodes], "weight", [], [out], tensors)
    version = max(REFERENCE, model.opset_imports.get("", 0), model.opset_imports.get("ai.onnx", 0))
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    result: list[Array] = ReferenceEvaluator(whole).run(None, {})  # type: ignore[assignment]
    return np.asarray(result[0])
