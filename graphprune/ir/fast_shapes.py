"""Shapes of the operators that networks are mostly made of, without a call into the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

Size = tuple[int, int]
Shape = tuple[Size, ...]
Rule = Callable[[ir.Node, Sequence[Shape]], Shape | None]


def fast_shape(node: ir.Node, shapes: Sequence[Shape | None]) -> Shape | None:
    """The shape of a node's only output, None when this form of the operator is left to the onnx package."""
    rule = RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return None
    if any(shape is None for shape in shapes):
        return None
    try:
        return rule(node, [shape or () for shape in shapes])
    except (IndexError, ZeroDivisionError):
        return None


def _ints(node: ir.Node, name: str, count: int, default: int) -> Sequence[int]:
    return node.attributes[name].as_ints() if name in node.attributes else [default] * count


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1


def _conv(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    data, weight = shapes[0], shapes[1]
    rank = len(data) - 2
    if rank < 1 or len(weight) != len(data):
        return None
    if "auto_pad" in node.attributes and node.attributes["auto_pad"].as_string() != "NOTSET":
        return None
    strides, dilations = _ints(node, "strides", rank, 1), _ints(node, "dilations", rank, 1)
    pads = _ints(node, "pads", 2 * rank, 0)
    spatial: list[Size] = []
    for axis in range(rank):
        window = dilations[axis] * (weight[axis + 2][0] - 1) + 1
        free = pads[axis] + pads[axis + rank] - window
        a, b = ((data[axis + 2][point] + free) // strides[axis] + 1 for point in (0, 1))
        if a < 1 or b < 1:
            return None
        spatial.append((a, b))
    return (data[0], weight[0], *spatial)


def _matmul(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    a, b = shapes
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2] or (len(b) > 2 and a[:-2] != b[:-2]):
        return None
    return (*a[:-1], b[-1])


def _gemm(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    a, b = shapes[0], shapes[1]
    if len(a) != 2 or len(b) != 2:
        return None
    return (a[1 if _flag(node, "transA") else 0], b[0 if _flag(node, "transB") else 1])


def _transpose(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    shape = shapes[0]
    perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else list(range(len(shape)))[::-1]
    return tuple(shape[axis] for axis in perm) if sorted(perm) == list(range(len(shape))) else None


def _concat(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    rank = len(shapes[0])
    axis = node.attributes["axis"].as_int() % rank
    rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if len(rest) != 1 or any(len(shape) != rank for shape in shapes):
        return None
    total = (sum(shape[axis][0] for shape in shapes), sum(shape[axis][1] for shape in shapes))
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _global_pool(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    return (*shapes[0][:2], *[(1, 1)] * (len(shapes[0]) - 2)) if len(shapes[0]) > 2 else None


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Concat": _concat,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
