"""Shapes of the operators that networks are mostly made of, without a call into the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.shape_data import Data

Size = tuple[int, int]
Shape = tuple[Size, ...]
Rule = Callable[[ir.Node, Sequence[Shape]], Shape | None]
DataRule = Callable[[ir.Node, Shape, Sequence[tuple[int, int]]], Shape | None]

ELEMENTWISE = frozenset(
    [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Gelu",
        "Exp",
        "Log",
        "Sqrt",
        "Neg",
        "Abs",
        "Clip",
        "Identity",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Softplus",
        "Softsign",
        "Mish",
        "Not",
        "Floor",
        "Ceil",
        "Round",
        "Reciprocal",
        "PRelu",
        "Sin",
        "Cos",
        "Celu",
        "Swish",
        "Sign",
        "IsNaN",
        "ThresholdedRelu",
        "Cast",
        "CastLike",
        "Dropout",
        "BiasGelu",
        "FastGelu",
        "QuickGelu",
    ]
)
"""Element by element, shaped like the first input."""
SAME_AS_FIRST = ELEMENTWISE | frozenset(
    [
        "Softmax",
        "LogSoftmax",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "Trilu",
        "CumSum",
        "SkipSimplifiedLayerNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "LpNormalization",
        "Hardmax",
        "RotaryEmbedding",
        "DequantizeLinear",
        "QuantizeLinear",
        "ScatterND",
        "ScatterElements",
        "Scatter",
        "TensorScatter",
        "MoE",
        "QMoE",
        "Scaler",
        "Imputer",
        "Normalizer",
        "Binarizer",
    ]
)
"""Operators whose only output has the shape of their first input."""
BROADCAST = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Min",
        "Max",
        "Sum",
        "Mean",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Where",
        "Mod",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
    ]
)
"""Operators whose only output has the broadcast shape of all inputs."""


def fast_shape(node: ir.Node, shapes: Sequence[Shape | None], data: Mapping[ir.Value, Data]) -> Shape | None:
    """The shape of a node's only output, None when this form of the operator is left to the onnx package."""
    if not is_default(node.domain) or len(node.outputs) != 1 or None in shapes:
        return None
    known = [shape or () for shape in shapes]
    rule, by_data = RULES.get(node.op_type), DATA_RULES.get(node.op_type)
    try:
        if rule is not None:
            return rule(node, known)
        numbers = None if by_data is None else _numbers(node, data)
        return None if by_data is None or numbers is None else by_data(node, known[0], numbers)
    except (IndexError, ZeroDivisionError):
        return None


def _numbers(node: ir.Node, data: Mapping[ir.Value, Data]) -> list[tuple[int, int]] | None:
    """A second input of integers at both points, or the axes that older opsets give as an attribute."""
    value = node.inputs[1] if len(node.inputs) == 2 else None
    if value is None:
        axes = list(node.attributes["axes"].as_ints()) if "axes" in node.attributes else None
        return None if axes is None else list(zip(axes, axes, strict=True))
    found = data.get(value)
    if found is None or found.a.dtype != np.int64 or found.a.ndim != 1:
        return None
    return list(zip(found.a.tolist(), found.b.tolist(), strict=True))


def _ints(node: ir.Node, name: str, count: int, default: int) -> Sequence[int]:
    return node.attributes[name].as_ints() if name in node.attributes else [default] * count


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() == 1


def _conv(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    return conv_shape(node, shapes[0], shapes[1])


def conv_shape(node: ir.Node, data: Shape, weight: Shape) -> Shape | None:
    """The result, channels first; None for automatic padding, and where the window does not fit."""
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


def _flatten(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    head, tail = shapes[0][:axis], shapes[0][axis:]
    if not 0 <= axis <= len(shapes[0]):
        return None
    return (prod(d[0] for d in head), prod(d[1] for d in head)), (
        prod(d[0] for d in tail),
        prod(d[1] for d in tail),
    )


def _gather(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    data, index = shapes[0], shapes[1]
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if not -len(data) <= axis < len(data):
        return None
    axis %= len(data)
    return (*data[:axis], *index, *data[axis + 1 :])


def _shape(node: ir.Node, shapes: Sequence[Shape]) -> Shape | None:
    if "start" in node.attributes or "end" in node.attributes:
        return None
    return ((len(shapes[0]), len(shapes[0])),)


def _reshape(node: ir.Node, shape: Shape, target: Sequence[tuple[int, int]]) -> Shape | None:
    if _flag(node, "allowzero"):
        return None
    at_points = [_reshaped([size[point] for size in shape], [d[point] for d in target]) for point in (0, 1)]
    first, second = at_points
    return None if first is None or second is None else tuple(zip(first, second, strict=True))


def _reshaped(dims: list[int], target: list[int]) -> list[int] | None:
    out = [dims[at] if size == 0 else size for at, size in enumerate(target)]
    holes = out.count(-1)
    if holes > 1 or min(out, default=1) < -1:
        return None
    if not holes:
        return out
    rest = -prod(out)
    if rest <= 0 or prod(dims) % rest:
        return None
    return [prod(dims) // rest if size == -1 else size for size in out]


def _unsqueeze(node: ir.Node, shape: Shape, axes: Sequence[tuple[int, int]]) -> Shape | None:
    rank = len(shape) + len(axes)
    new = {a % rank for a, b in axes if a == b and -rank <= a < rank}
    if len(new) != len(axes):
        return None
    rest = iter(shape)
    return tuple((1, 1) if axis in new else next(rest) for axis in range(rank))


def _squeeze(node: ir.Node, shape: Shape, axes: Sequence[tuple[int, int]]) -> Shape | None:
    gone = {a % len(shape) for a, b in axes if a == b and -len(shape) <= a < len(shape)}
    if len(gone) != len(axes) or any(shape[axis] != (1, 1) for axis in gone):
        return None
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Concat": _concat,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Flatten": _flatten,
    "Gather": _gather,
    "Shape": _shape,
}
DATA_RULES: dict[str, DataRule] = {
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
}
"""Operators that also need the numbers in their second input."""
