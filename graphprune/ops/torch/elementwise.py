"""Operators that work slot by slot, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor, number

Function = Callable[..., object]
FLOAT8_MAX = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}
FLOAT8_END = 464.0
"""Half a step above the largest number of E4M3FN."""
LOWEST = float(torch.finfo(torch.float32).min)
WRAPS = {4: 16, 12: 32, 13: 64, 21: 4, 22: 4, 25: 2, 26: 2}
"""Unsigned and narrow ONNX types that a wider one holds, with their bits."""
SIGNED = frozenset({22, 26})


def plain(function: Callable[[Tensor], Tensor]) -> Function:
    """A function of one tensor that has no attributes."""
    return lambda call, x: function(x)


def pair(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """A function of two tensors that has no attributes."""
    return lambda call, a, b: function(a, b)


def clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Two bounds pass no gradient where x lies on one, as ReLU6 does; trained bounds get theirs."""
    if any(bound is not None and bound.requires_grad for bound in (low, high)):
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)
    lowest = number(low) if low is not None else call.real("min", -math.inf)
    highest = number(high) if high is not None else call.real("max", math.inf)
    below = None if lowest <= LOWEST else lowest
    above = None if highest >= -LOWEST else highest
    if below is None and above is None:
        return x
    if below is not None and above is not None and below <= above and x.is_floating_point():
        return F.hardtanh(x, below, above)
    return torch.clamp(x, below, above)


def cast(call: Call, x: Tensor) -> Tensor:
    """Numbers to another type: towards zero to integers, saturated to eight bits of a float."""
    return to_type(x, call.dtype(call.integer("to")), call, call.integer("to"))


def cast_like(call: Call, x: Tensor, like: Tensor) -> Tensor:
    """As Cast, to the type of another tensor."""
    return to_type(x, like.dtype, call)


def to_type(x: Tensor, kind: torch.dtype, call: Call, onnx_type: int = 0) -> Tensor:
    """Another type, as ONNX defines it."""
    if kind in FLOAT8_MAX and call.integer("saturate", 1):
        bound = FLOAT8_MAX[kind]
        x = x.float().clamp(-bound, bound)
    elif kind == torch.float8_e4m3fn:  # torch saturates what ONNX makes NaN
        x = torch.where(x.float().abs() > FLOAT8_END, torch.nan, x.float())
    if onnx_type in WRAPS and x.dtype != torch.bool:
        bits = WRAPS[onnx_type]
        whole = x.to(torch.int64)
        half = 2 ** (bits - 1) if onnx_type in SIGNED else 0
        return (whole if bits == 64 else (whole + half).remainder(2**bits) - half).to(kind)
    return x.to(kind)


def divide(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Integers round towards zero."""
    if a.is_floating_point() or a.is_complex():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def modulo(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The sign is that of the divisor, with `fmod` that of the dividend."""
    return torch.fmod(a, b) if call.integer("fmod") else torch.remainder(a, b)


def power(call: Call, base: Tensor, exponent: Tensor) -> Tensor:
    """The type is that of the base."""
    if exponent.numel() == 1 and exponent.dim() <= base.dim() and not exponent.requires_grad:
        value = number(exponent)
        value = int(value) if value == int(value) else value
        if value >= 0 or base.is_floating_point():
            return base.pow(value).to(base.dtype)
    if not base.is_floating_point():
        return torch.pow(base.double(), exponent.double()).to(base.dtype)
    return torch.pow(base, exponent.to(base.dtype))


def shift(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Bits to the left or right."""
    return a << b if call.text("direction") == "LEFT" else a >> b


def many(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """A function of two tensors, over any number of them."""
    return lambda call, *tensors: reduce(function, tensors)


def mean(call: Call, *tensors: Tensor) -> Tensor:
    """The mean of several tensors."""
    return reduce(torch.add, tensors) / len(tensors)


def shrink(call: Call, x: Tensor) -> Tensor:
    """Towards zero by `bias`, to zero within `lambd`."""
    bias, bound = call.real("bias"), call.real("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, zero)).to(x.dtype)


def selu(call: Call, x: Tensor) -> Tensor:
    """Elu, times gamma."""
    alpha, gamma = (
        call.real("alpha", 1.67326319217681884765625),
        call.real("gamma", 1.05070102214813232421875),
    )
    return gamma * F.elu(x, alpha)


def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """A line, between 0 and 1."""
    return F.hardtanh(call.real("alpha", 0.2) * x + call.real("beta", 0.5), 0.0, 1.0)


def gelu(call: Call, x: Tensor) -> Tensor:
    """By erf or tanh."""
    return F.gelu(x, approximate=call.text("approximate", "none"))


def is_infinite(call: Call, x: Tensor) -> Tensor:
    """Either sign, or one."""
    positive, negative = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    infinite = torch.isinf(x)
    return (
        infinite
        & ((x > 0) if not negative else (x < 0) if not positive else infinite)
        & bool(positive or negative)
    )


def softmax_like(function: Callable[[Tensor, int], Tensor]) -> Function:
    """Along an axis; before opset 13 over all axes from there on, as one."""

    def run(call: Call, x: Tensor) -> Tensor:
        if call.opset >= 13:
            return function(x, call.integer("axis", -1))
        axis = call.integer("axis", 1) % max(x.dim(), 1)
        return function(x.flatten(axis), axis).reshape(x.shape)

    return run


def hardmax(x: Tensor, axis: int) -> Tensor:
    """One at the first largest."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


def local_response(call: Call, x: Tensor) -> Tensor:
    """Divides by a power of the mean square over neighbouring channels."""
    size = call.integer("size")
    square = F.pad((x * x).movedim(1, -1), [(size - 1) // 2, size // 2])
    total = square.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    scale = call.real("bias", 1.0) + call.real("alpha", 1e-4) / size * total
    return x / scale.pow(call.real("beta", 0.75))


def lp_normalise(call: Call, x: Tensor) -> Tensor:
    """Divides by the norm along an axis; zero stays zero."""
    norm = torch.linalg.vector_norm(x, call.integer("p", 2), call.integer("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, 1.0, norm))


def mean_variance(call: Call, x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over some axes."""
    axes = call.integers("axes") or [0, 2, 3]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def triangle(call: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    """The upper or lower triangle."""
    diagonal = 0 if k is None else int(number(k))
    return torch.triu(x, diagonal) if call.integer("upper", 1) else torch.tril(x, diagonal)


def cumulative(function: Callable[..., Tensor], neutral: float) -> Function:
    """Running sums or products, with or without the element itself, from either end."""

    def run(call: Call, x: Tensor, axis: Tensor) -> Tensor:
        along = int(number(axis))
        x = x.flip(along) if call.integer("reverse") else x
        out = function(x, along).to(x.dtype)
        if call.integer("exclusive"):
            first = torch.full_like(x.narrow(along, 0, 1), neutral)
            out = torch.cat([first, out.narrow(along, 0, x.shape[along] - 1)], along)
        return out.flip(along) if call.integer("reverse") else out

    return run


def shape(call: Call, x: Tensor) -> Tensor:
    """Sizes, as integers that stay on the CPU."""
    end = call.integer("end", x.dim()) if x.dim() else 0
    return torch.tensor(list(x.shape)[call.integer("start") : end], dtype=torch.int64)


def size(call: Call, x: Tensor) -> Tensor:
    """The number of elements."""
    return torch.tensor(x.numel(), dtype=torch.int64)


def arange(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers in even steps."""
    first, end, step = (number(each) for each in (start, limit, delta))
    count = max(0, math.ceil((end - first) / step))
    steps = torch.arange(count, dtype=torch.float64 if start.is_floating_point() else torch.int64)
    return (steps * step + first).to(start.dtype).to(call.device if start.is_floating_point() else "cpu")


def eye_like(call: Call, x: Tensor) -> Tensor:
    """Ones on a diagonal."""
    kind = call.dtype(call.integer("dtype")) if "dtype" in call.attributes else x.dtype
    rows, columns = x.shape
    wide = torch.arange(columns, device=x.device) - torch.arange(rows, device=x.device).unsqueeze(1)
    return (wide == call.integer("k")).to(kind)


def dropout(
    call: Call, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Hands its input on, except in training."""
    share = call.real("ratio", 0.5) if ratio is None else float(number(ratio))
    if training is None or not number(training) or share == 0:
        return x, torch.ones_like(x, dtype=torch.bool) if call.wants(1) else None
    mask = torch.rand_like(x) >= share
    return x * mask / (1 - share), mask


def random(make: Callable[..., Tensor], scale: str, offset: str) -> Function:
    """Random numbers, in a shape or like a tensor; `scale` and `offset` are attributes."""

    def run(call: Call, like: Tensor | None = None) -> Tensor:
        kind = call.dtype(call.integer("dtype")) if "dtype" in call.attributes else None
        if like is None:
            drawn = make(call.integers("shape"), dtype=kind or call.dtype(1), device=call.device)
        else:
            drawn = make(like.shape, dtype=kind or like.dtype, device=like.device)
        low = call.real(offset)
        spread = call.real(scale, 1.0) - (low if offset == "low" else 0.0)
        return drawn * spread + low

    return run


def bernoulli(call: Call, x: Tensor) -> Tensor:
    """1 with the probability that x says."""
    drawn = torch.bernoulli(x)
    return drawn.to(call.dtype(call.integer("dtype"))) if "dtype" in call.attributes else drawn


def multinomial(call: Call, x: Tensor) -> Tensor:
    """Samples of classes by log-probabilities."""
    drawn = torch.multinomial(x.softmax(-1), call.integer("sample_size", 1), replacement=True)
    return drawn.to(call.dtype(call.integer("dtype", 6)))


def swish(call: Call, x: Tensor) -> Tensor:
    """The product of x and sigmoid(alpha x)."""
    alpha = call.real("alpha", 1.702 if call.op.endswith("QuickGelu") else 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


ROWS: dict[str, Function] = {
    "Relu": plain(torch.relu),
    "LeakyRelu": lambda call, x: F.leaky_relu(x, call.real("alpha", 0.01)),
    "Elu": lambda call, x: F.elu(x, call.real("alpha", 1.0)),
    "Selu": selu,
    "Celu": lambda call, x: F.celu(x, call.real("alpha", 1.0)),
    "ThresholdedRelu": lambda call, x: F.threshold(x, call.real("alpha", 1.0), 0.0),
    "Shrink": shrink,
    "Softsign": plain(F.softsign),
    "Mish": plain(F.mish),
    "Swish": swish,
    "com.microsoft:QuickGelu": swish,
    "HardSwish": plain(F.hardswish),
    "Gelu": gelu,
    "com.microsoft:Gelu": plain(F.gelu),
    "Erf": plain(torch.erf),
    "Softplus": plain(F.softplus),
    "Sigmoid": plain(torch.sigmoid),
    "HardSigmoid": hard_sigmoid,
    "Tanh": plain(torch.tanh),
    "Clip": clip,
    "Identity": plain(lambda x: x),
    "Sqrt": plain(torch.sqrt),
    "Neg": plain(torch.neg),
    "Abs": plain(torch.abs),
    "Sign": plain(torch.sign),
    "Floor": plain(torch.floor),
    "Ceil": plain(torch.ceil),
    "Round": plain(torch.round),
    "Sin": plain(torch.sin),
    "Cos": plain(torch.cos),
    "Tan": plain(torch.tan),
    "Asin": plain(torch.asin),
    "Acos": plain(torch.acos),
    "Atan": plain(torch.atan),
    "Sinh": plain(torch.sinh),
    "Cosh": plain(torch.cosh),
    "Asinh": plain(torch.asinh),
    "Acosh": plain(torch.acosh),
    "Atanh": plain(torch.atanh),
    "Exp": plain(torch.exp),
    "Log": plain(torch.log),
    "Reciprocal": plain(torch.reciprocal),
    "BitwiseNot": plain(torch.bitwise_not),
    "Cast": cast,
    "CastLike": cast_like,
    "Not": plain(torch.logical_not),
    "IsNaN": plain(torch.isnan),
    "IsInf": is_infinite,
    "Add": pair(torch.add),
    "Sum": many(torch.add),
    "Sub": pair(torch.sub),
    "Mul": pair(torch.mul),
    "Div": divide,
    "Min": many(torch.minimum),
    "Max": many(torch.maximum),
    "Pow": power,
    "Mean": mean,
    "Mod": modulo,
    "BitShift": shift,
    "BitwiseAnd": pair(torch.bitwise_and),
    "BitwiseOr": pair(torch.bitwise_or),
    "BitwiseXor": pair(torch.bitwise_xor),
    "And": pair(torch.logical_and),
    "Or": pair(torch.logical_or),
    "Xor": pair(torch.logical_xor),
    "Equal": pair(torch.eq),
    "Less": pair(torch.lt),
    "LessOrEqual": pair(torch.le),
    "Greater": pair(torch.gt),
    "GreaterOrEqual": pair(torch.ge),
    "Where": lambda call, condition, a, b: torch.where(condition, a, b),
    "PRelu": lambda call, x, slope: torch.where(x < 0, slope * x, x),
    "Softmax": softmax_like(lambda x, axis: torch.softmax(x, axis)),
    "LogSoftmax": softmax_like(lambda x, axis: torch.log_softmax(x, axis)),
    "Hardmax": softmax_like(hardmax),
    "LRN": local_response,
    "LpNormalization": lp_normalise,
    "MeanVarianceNormalization": mean_variance,
    "Trilu": triangle,
    "com.microsoft:Trilu": triangle,
    "CumSum": cumulative(torch.cumsum, 0.0),
    "CumProd": cumulative(torch.cumprod, 1.0),
    "Shape": shape,
    "Size": size,
    "Range": arange,
    "EyeLike": eye_like,
    "Dropout": dropout,
    "RandomNormal": random(torch.randn, "scale", "mean"),
    "RandomNormalLike": random(torch.randn, "scale", "mean"),
    "RandomUniform": random(torch.rand, "high", "low"),
    "RandomUniformLike": random(torch.rand, "high", "low"),
    "Bernoulli": bernoulli,
    "Multinomial": multinomial,
}
HOST = {
    "Clip": (1, 2),
    "Pow": (1,),
    "Trilu": (1,),
    "com.microsoft:Trilu": (1,),
    "CumSum": (1,),
    "CumProd": (1,),
}
HOST |= {"Range": (0, 1, 2), "Dropout": (1, 2)}
