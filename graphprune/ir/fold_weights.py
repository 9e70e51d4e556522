"""Evaluates parts of a graph that read nothing but weights, where that does not make the model larger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.domains import is_default
from graphprune.ir.element import UNSIZED, is_packed
from graphprune.ir.evaluate import Attributes, CannotEvaluateError, Evaluator, Inputs, evaluator, integer
from graphprune.ir.nodes import is_constant
from graphprune.ir.operators import Shape

FOLDABLE = frozenset([
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Slice", "Concat", "Expand", "Neg",
    "Mul", "Div", "Add", "Sub", "Sqrt", "Pow", "Reciprocal", "Abs", "Max", "Min", "Clip", "ReduceSum",
    "ReduceMean", "ReduceL2", "ScatterND",
])  # fmt: skip
"""ReduceL2 stands in weight norm; by ScatterND Swin v2 zeroes the bias of its keys."""
Shapes = Mapping[ir.Value, Shape | None]
SMALL = 64
"""Bytes that a folded result may always cost."""
WORK = 2**32
"""Most multiplications of a product that is folded."""


def fold_weights(graph: ir.Graph, shapes: Shapes) -> dict[ir.Value, Array]:
    """Evaluates every foldable part of a graph.

    Args:
        graph: to look at.
        shapes: of its values.

    Returns:
        Values that other nodes read, with their contents. The caller replaces them and sweeps the dead nodes.
    """
    results: dict[ir.Value, Array] = {}
    for part in _parts(graph, shapes):
        inside = set(part)
        frontier = [out for node in part for out in node.outputs if _leaves(out, inside)]
        if any(out.is_graph_output() for node in part for out in node.outputs):
            continue
        values = _evaluated(part) if freed(inside) or len(part) == 1 else None
        if values is None or any(out not in values for out in frontier):
            continue
        if sum(values[out].nbytes for out in frontier) <= max(freed(inside), SMALL):
            results.update((out, values[out]) for out in frontier)
    return results


def _parts(graph: ir.Graph, shapes: Shapes) -> Iterator[list[ir.Node]]:
    """Connected weight-only nodes, in topological order."""
    constant: set[ir.Value] = set()
    links: list[tuple[ir.Node, ir.Node]] = []
    order: dict[ir.Node, int] = {}
    for index, node in enumerate(graph):
        inputs = [value for value in node.inputs if value is not None]
        if (
            not inputs
            or not _is_foldable(node, shapes)
            or not all(_is_weight(v) or v in constant for v in inputs)
        ):
            continue
        constant.update(node.outputs)
        order[node] = index
        links.extend((producer, node) for v in inputs if (producer := v.producer()) is not None)
    if not order:
        return
    import networkx as nx  # slow to import, and most graphs have no such node

    joined: nx.Graph[ir.Node] = nx.Graph()
    joined.add_nodes_from(order)
    joined.add_edges_from(links)
    for part in nx.connected_components(joined):
        yield sorted(part, key=lambda node: order[node])


def _is_foldable(node: ir.Node, shapes: Shapes) -> bool:
    if not is_default(node.domain) or (node.op_type == "MatMul" and not _is_by_vector(node, shapes)):
        return False
    return node.op_type in FOLDABLE or node.op_type in PRODUCTS or _is_standardisation(node)


def _is_by_vector(node: ir.Node, shapes: Shapes) -> bool:
    """A product of two matrices is a layer (DeBERTa's positions by its keys), whose widths may be cut."""
    found = shapes.get(node.outputs[0])
    return found is not None and (len(found) < 2 or (1, 1) in found[-2:])


def _is_standardisation(node: ir.Node) -> bool:
    """Weight standardisation, as PyTorch exports it: a BatchNormalization in training mode over a weight."""
    training = node.attributes.get_int("training_mode", 0)
    return (
        node.op_type == "BatchNormalization"
        and training == 1
        and not any(out.uses() for out in node.outputs[1:])
    )


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    if not is_constant(value) or tensor is None or tensor.dtype in UNSIZED:
        return False
    return not is_packed(tensor.dtype)


def _leaves(out: ir.Value, inside: set[ir.Node]) -> bool:
    return any(user not in inside for user, _ in out.uses())


def freed(inside: set[ir.Node]) -> int:
    """Bytes of the initializers that only these nodes read."""
    weights = {v for node in inside for v in node.inputs if v is not None and is_constant(v)}
    private = (v for v in weights if all(user in inside for user, _ in v.uses()) and not v.is_graph_output())
    return sum(v.const_value.nbytes for v in private if v.const_value is not None)


def _evaluated(part: list[ir.Node]) -> Mapping[ir.Value, Array] | None:
    values: dict[ir.Value, Array] = {}
    for node in part:
        inputs = [None if v is None else values[v] if v in values else _array(v) for v in node.inputs]
        function = PRODUCTS.get(node.op_type) or evaluator(node.op_type)
        try:
            if function is not None:
                values[node.outputs[0]] = np.asarray(function(inputs, node.attributes))
            else:
                values[node.outputs[0]] = _standardised(inputs, node)
        except (CannotEvaluateError, ValueError, IndexError, TypeError, KeyError):
            return None
    return values


def _matmul(inputs: Inputs, attributes: Attributes) -> Array:
    """In double precision: a singular value divides every weight."""
    one, two = inputs
    if one is None or two is None or one.size * two.shape[-1] > WORK:
        raise CannotEvaluateError
    return np.asarray(np.matmul(one.astype(np.float64), two.astype(np.float64))).astype(one.dtype)


def _flatten(inputs: Inputs, attributes: Attributes) -> Array:
    data, axis = inputs[0], integer(attributes, "axis", 1)
    if data is None:
        raise CannotEvaluateError
    outer = prod(data.shape[:axis])
    return data.reshape(outer, data.size // max(1, outer))


PRODUCTS: dict[str, Evaluator] = {"MatMul": _matmul, "Flatten": _flatten}
"""Of spectral norm: W over its largest singular value u' W v."""


def _array(value: ir.Value) -> Array:
    tensor = value.const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def _standardised(inputs: Inputs, node: ir.Node) -> Array:
    data, scale, bias = inputs[0], inputs[1], inputs[2]
    if data is None or scale is None or bias is None:
        raise CannotEvaluateError
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    wide = data.astype(np.float64)
    axes = tuple(axis for axis in range(data.ndim) if axis != 1)
    column = (-1, *[1] * (data.ndim - 2))
    unit = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + epsilon)
    return np.asarray(unit * scale.reshape(column) + bias.reshape(column)).astype(data.dtype)
