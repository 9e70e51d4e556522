"""Numpy meaning of the small operators that shape arithmetic is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array

Inputs = Sequence[Array | None]
Attributes = Mapping[str, ir.Attr]
Evaluator = Callable[[Inputs, Attributes], Array]


class CannotEvaluateError(Exception):
    """This operator, or this form of it, has no meaning here."""


def _required(inputs: Inputs, index: int) -> Array:
    value = inputs[index] if index < len(inputs) else None
    if value is None:
        raise CannotEvaluateError
    return value


def integer(attributes: Attributes, name: str, default: int) -> int:
    """An integer attribute."""
    return attributes[name].as_int() if name in attributes else default


def axes_of(inputs: Inputs, attributes: Attributes, position: int = 1) -> tuple[int, ...] | None:
    """The axes of a Squeeze, Unsqueeze or Reduce, from its input or (older opsets) its attribute."""
    if position < len(inputs) and inputs[position] is not None:
        return tuple(int(axis) for axis in np.ravel(_required(inputs, position)))
    return tuple(attributes["axes"].as_ints()) if "axes" in attributes else None


def _gather(inputs: Inputs, attributes: Attributes) -> Array:
    data, index = _required(inputs, 0), _required(inputs, 1)
    return np.asarray(np.take(data, index.astype(np.int64), axis=integer(attributes, "axis", 0)))


def _concat(inputs: Inputs, attributes: Attributes) -> Array:
    return np.concatenate(
        [_required(inputs, i) for i in range(len(inputs))], axis=integer(attributes, "axis", 0)
    )


def _slice(inputs: Inputs, attributes: Attributes) -> Array:
    data = _required(inputs, 0)
    out: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in slice_bounds(inputs, attributes, data.ndim):
        clipped_end = None if step < 0 and end < -data.shape[axis] else end
        out[axis] = slice(start, clipped_end, step)
    return data[tuple(out)]


def slice_bounds(inputs: Inputs, attributes: Attributes, rank: int) -> list[tuple[int, int, int, int]]:
    """(axis, start, end, step) of a Slice in either of its forms."""
    if len(inputs) == 1:
        starts, ends = list(attributes["starts"].as_ints()), list(attributes["ends"].as_ints())
        axes = list(attributes["axes"].as_ints()) if "axes" in attributes else list(range(len(starts)))
        steps = [1] * len(starts)
    else:
        starts, ends = np.ravel(_required(inputs, 1)).tolist(), np.ravel(_required(inputs, 2)).tolist()
        given = inputs[3] if len(inputs) > 3 else None
        axes = list(range(len(starts))) if given is None else np.ravel(given).tolist()
        stride = inputs[4] if len(inputs) > 4 else None
        steps = [1] * len(starts) if stride is None else np.ravel(stride).tolist()
    return [
        (int(a) % rank, int(s), int(e), int(t)) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)
    ]


def _squeeze(inputs: Inputs, attributes: Attributes) -> Array:
    return np.squeeze(_required(inputs, 0), axis=axes_of(inputs, attributes))


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Array:
    axes = axes_of(inputs, attributes)
    if axes is None:
        raise CannotEvaluateError
    return np.expand_dims(_required(inputs, 0), axes)


def _reshape(inputs: Inputs, attributes: Attributes) -> Array:
    data, shape = _required(inputs, 0), np.ravel(_required(inputs, 1)).astype(np.int64)
    if not integer(attributes, "allowzero", 0):
        shape = np.array([data.shape[i] if d == 0 else d for i, d in enumerate(shape)], np.int64)
    return data.reshape(shape)


def _transpose(inputs: Inputs, attributes: Attributes) -> Array:
    perm = attributes["perm"].as_ints() if "perm" in attributes else None
    return np.transpose(_required(inputs, 0), perm)


def _cast(inputs: Inputs, attributes: Attributes) -> Array:
    return _required(inputs, 0).astype(ir.DataType(attributes["to"].as_int()).numpy())


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> Array:
    shape = np.ravel(_required(inputs, 0)).astype(np.int64)
    if np.prod(shape, dtype=np.float64) > 1 << 20:
        raise CannotEvaluateError
    value = attributes["value"].as_tensor().numpy() if "value" in attributes else np.zeros(1, np.float32)
    return np.full(shape, np.ravel(value)[0])


def _expand(inputs: Inputs, attributes: Attributes) -> Array:
    data, shape = _required(inputs, 0), np.ravel(_required(inputs, 1)).astype(np.int64)
    full = np.broadcast_shapes(data.shape, tuple(int(d) for d in shape))
    if np.prod(full, dtype=np.float64) > 1 << 20:
        raise CannotEvaluateError
    return np.broadcast_to(data, full)


def _range(inputs: Inputs, attributes: Attributes) -> Array:
    start, limit, delta = (np.ravel(_required(inputs, i))[0] for i in range(3))
    if not delta or abs((limit - start) / delta) > 1 << 20:
        raise CannotEvaluateError
    return np.arange(start, limit, delta, dtype=start.dtype)


def _divide(inputs: Inputs, attributes: Attributes) -> Array:
    a, b = _required(inputs, 0), _required(inputs, 1)
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(np.divide(a, b))
    if (b == 0).any():
        raise CannotEvaluateError
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _binary(function: Callable[[Array, Array], Array]) -> Evaluator:
    return lambda inputs, attributes: np.asarray(function(_required(inputs, 0), _required(inputs, 1)))


def _unary(function: Callable[[Array], Array]) -> Evaluator:
    return lambda inputs, attributes: np.asarray(function(_required(inputs, 0)))


def _reduce(function: Callable[..., Array]) -> Evaluator:
    def evaluate(inputs: Inputs, attributes: Attributes) -> Array:
        keep = bool(integer(attributes, "keepdims", 1))
        return np.asarray(function(_required(inputs, 0), axis=axes_of(inputs, attributes), keepdims=keep))

    return evaluate


def _length(array: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    wide = array.astype(np.float64)
    return np.asarray(np.sqrt((wide * wide).sum(axis=axis, keepdims=keepdims)), array.dtype)


def _where(inputs: Inputs, attributes: Attributes) -> Array:
    return np.where(_required(inputs, 0), _required(inputs, 1), _required(inputs, 2))


def _clip(inputs: Inputs, attributes: Attributes) -> Array:
    out = _required(inputs, 0)
    for position, name, function in ((1, "min", np.maximum), (2, "max", np.minimum)):
        given = inputs[position] if position < len(inputs) else None
        bound = attributes[name].as_float() if given is None and name in attributes else given
        out = out if bound is None else function(out, np.asarray(bound, out.dtype))
    return np.asarray(out)


def _scatter_nd(inputs: Inputs, attributes: Attributes) -> Array:
    if "reduction" in attributes and attributes["reduction"].as_string() != "none":
        raise CannotEvaluateError
    out = _required(inputs, 0).copy()
    out[tuple(np.moveaxis(_required(inputs, 1), -1, 0))] = _required(inputs, 2)
    return out


def _one_hot(inputs: Inputs, attributes: Attributes) -> Array:
    index, values = _required(inputs, 0).astype(np.int64), _required(inputs, 2)
    depth, axis = int(np.ravel(_required(inputs, 1))[0]), integer(attributes, "axis", -1)
    if not 0 < depth * index.size <= 1 << 12:
        raise CannotEvaluateError
    hot = np.equal.outer(np.where(index < 0, index + depth, index), np.arange(depth))
    return np.moveaxis(np.where(hot, values[1], values[0]), -1, axis)


MOVES: dict[str, Evaluator] = {
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Identity": _unary(lambda x: x),
    "Expand": _expand,
}
"""Operators that move elements without changing them: they move what is known about each element too."""

COMPUTES: dict[str, Evaluator] = {
    "Cast": _cast,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Mod": _binary(np.mod),
    "Pow": _binary(np.power),
    "Max": _binary(np.maximum),
    "Min": _binary(np.minimum),
    "Equal": _binary(np.equal),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Not": _unary(np.logical_not),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(np.reciprocal),
    "Where": _where,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceL2": _reduce(_length),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "Clip": _clip,
    "ScatterND": _scatter_nd,
    "OneHot": _one_hot,
}


def evaluator(op_type: str) -> Evaluator | None:
    """The numpy meaning of a default-domain operator, None when it has none here."""
    return MOVES.get(op_type) or COMPUTES.get(op_type)
