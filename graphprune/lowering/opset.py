"""A model in a later opset, where every node means the same there or can be written so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphprune.ir.build import Names, initializer
from graphprune.ir.domains import is_default
from graphprune.ir.graphs import all_nodes, every_graph
from graphprune.ir.nodes import input_of
from graphprune.ir.opsets import means_the_same, since
from graphprune.lowering.scene import dtype_of

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
INPUTS: Mapping[str, tuple[str, ...]] = {
    "Squeeze": ("axes",),
    "Unsqueeze": ("axes",),
    "Split": ("split",),
    "Clip": ("min", "max"),
    "Dropout": ("ratio",),
    **{f"Reduce{name}": ("axes",) for name in REDUCTIONS},
}
"""Attributes that are inputs in later opsets, behind the first, in their order."""
OTHER = frozenset(["GroupNormalization", "RoiAlign", "Resize", "AveragePool"])
"""Operators that compute something else in a later opset though all their names stay."""
PREFIX = "opset_"


def raised(model: ir.Model, opset: int) -> bool:
    """Raises the opset of a model in normal form, in place; False where that cannot be done.

    Nothing of the model is fit for use then.
    """
    old, graph = model.opset_imports.get("", 0), model.graph
    if not old or model.functions:
        return False
    taken = {value.name for node in all_nodes(graph) for value in (*node.inputs, *node.outputs) if value}
    names = Names(PREFIX, taken | set(graph.initializers))
    for node in list(all_nodes(graph)):
        if is_default(node.domain) and not _moved(node, graph, names, old, opset):
            return False
    for each in every_graph(graph):
        if "" in each.opset_imports:
            each.opset_imports[""] = opset
    return True


def _moved(node: ir.Node, graph: ir.Graph, names: Names, old: int, new: int) -> bool:
    """Whether a node now means in the new opset what it meant in the old one."""
    if since(node.op_type, old) == since(node.op_type, new):
        return True
    if means_the_same(node, old, new) and node.op_type != "Split":
        return node.op_type not in OTHER
    attributes = INPUTS.get(node.op_type)
    if attributes is None:
        return False
    if node.op_type == "Split" and new >= 18 and not _sized(node):
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
        return True
    for position, name in enumerate(attributes, 1):
        if name in node.attributes:
            _as_input(node, position, names.fresh(), graph, name)
    return True


def _sized(node: ir.Node) -> bool:
    """Whether a Split says how large its parts are."""
    return "split" in node.attributes or "num_outputs" in node.attributes or input_of(node, 1) is not None


def _as_input(node: ir.Node, position: int, fresh: str, graph: ir.Graph, name: str) -> None:
    attribute = node.attributes.pop(name)
    if attribute.type == ir.AttributeType.FLOAT:
        kind = dtype_of(node) or ir.DataType.FLOAT
        content = np.asarray(attribute.as_float()).astype(kind.numpy())
    else:
        content = np.asarray(attribute.as_ints(), np.int64)
    node.resize_inputs(max(len(node.inputs), position + 1))
    node.replace_input_with(position, initializer(graph, fresh, content))
