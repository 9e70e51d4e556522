"""Which Softmax chooses experts: its axis may shrink, for a removed expert has logit -infinity."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Branches

CHOOSERS = frozenset({"TopK", "ArgMax"})
ALONG = frozenset(
    ["Mul", "Div", "Add", "Sub", "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Transpose"]
)
DEPTH = 8


def find_routers(nodes: Iterable[ir.Node], sizes: Sizes, branches: Branches) -> frozenset[ir.Node]:
    """Softmax nodes over an axis of which a TopK chooses, or whose every slot weighs an expert of its own."""
    picked = {branch.pick.node for branch in branches.found} | {node for node, _ in branches.reasons}
    return frozenset(n for n in nodes if n.op_type == "Softmax" and _routes(n, picked, sizes))


def _routes(softmax: ir.Node, picked: set[ir.Node], sizes: Sizes) -> bool:
    shape = sizes.shapes.get(softmax.outputs[0])
    axis = softmax.attributes["axis"].as_int() if "axis" in softmax.attributes else -1
    if shape is None or axis % len(shape) != len(shape) - 1 or shape[-1][0] != shape[-1][1]:
        return False
    starts = [softmax.outputs[0], *(v for v in softmax.inputs if v is not None)]
    return any(_chosen(value, picked, shape[-1], sizes) for value in starts)


def _chosen(value: ir.Value, picked: set[ir.Node], size: tuple[int, int], sizes: Sizes) -> bool:
    """Whether a TopK, a pick or a product with stacked experts reads this axis, directly or slot by slot."""
    work = [(value, 0)]
    for item, depth in work:
        for user, position in item.uses():
            if user in picked:
                return True
            shape = sizes.shapes.get(item)
            if user.op_type in CHOOSERS and position == 0 and shape is not None and shape[-1] == size:
                return True
            if user.op_type in ("Mul", "MatMul", "Einsum") and _stacked(user, 1 - position, size):
                return True
            if user.op_type in ALONG and depth < DEPTH:
                work.append((user.outputs[0], depth + 1))
    return False


def _stacked(node: ir.Node, position: int, size: tuple[int, int]) -> bool:
    """Whether the other operand comes out of a product with weights that are stacked along this axis."""
    value = node.inputs[position] if len(node.inputs) == 2 else None
    for _ in range(DEPTH):
        producer = value.producer() if value is not None else None
        if producer is None:
            return False
        for weight in producer.inputs if producer.op_type in ("MatMul", "Einsum") else ():
            tensor = weight.const_value if weight is not None and weight.producer() is None else None
            if tensor is not None and len(tensor.shape) >= 3 and tensor.shape[-3] == size[0] > 1:
                return True
        value = next((v for v in producer.inputs if v is not None and v.producer() is not None), None)
    return False
