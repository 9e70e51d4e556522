"""Operators on codes: whole floats that a gradient passes through, straight, within their range.

The scale gets the gradient of learned step sizes (LSQ): what rounding left over inside, the bound outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from graphprune.ops.torch import elementwise, linear, reduce
from graphprune.ops.torch.attention import projected
from graphprune.ops.torch.call import Call, Tensor, along, axes_of
from graphprune.ops.torch.recurrent import recurrent

RANGES = {
    2: (0, 255),
    3: (-128, 127),
    4: (0, 65535),
    5: (-32768, 32767),
    21: (0, 15),
    22: (-8, 7),
    25: (0, 3),
    26: (-2, 1),
}
"""Smallest and largest code, by the number of an ONNX type."""
BYTE = RANGES[2]


def straight(x: Tensor) -> Tensor:
    """Rounded half to even; the gradient passes as if it were not."""
    return x + (torch.round(x) - x).detach()


def encode(x: Tensor, scale: Tensor, zero: Tensor | float, bounds: tuple[int, int]) -> Tensor:
    """Numbers to codes."""
    return torch.clamp(straight(x / scale) + zero, *bounds)


def decode(codes: Tensor, scale: Tensor, zero: Tensor | float = 0.0) -> Tensor:
    """Codes to numbers."""
    return (codes.to(scale.dtype) - zero) * scale


def _spread(call: Call, parameter: Tensor, like: Tensor) -> Tensor:
    """A scale or zero point beside its data: one, one per slot of an axis, or one per block."""
    if parameter.numel() == 1 and parameter.dim() < 2:
        return parameter.reshape(())
    axis, block = call.integer("axis", 1) % max(like.dim(), 1), call.integer("block_size")
    if (parameter.dim() == 1 and like.dim() > 1) or not block:
        return along(parameter, like.dim(), axis) if parameter.dim() == 1 else parameter
    return parameter.repeat_interleave(block, axis).narrow(axis, 0, like.shape[axis])


def _code_range(call: Call, zero: Tensor | None) -> tuple[int, int]:
    """Smallest and largest code: as the node or the type of its zero point says, else of an unsigned byte."""
    kind = call.integer("output_dtype") or call.kind(2)
    if kind and kind not in RANGES:
        raise call.refuse("codes that are small floats are not written out", constant=True)
    if not kind and zero is not None and zero.dtype == torch.int8:
        return RANGES[3]
    return RANGES.get(kind, BYTE)


def quantise(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Numbers to codes, per tensor, per slot of an axis, or per block."""
    bounds = _code_range(call, zero)
    offset = 0.0 if zero is None else _spread(call, zero, x).to(scale.dtype)
    return encode(x.to(scale.dtype), _spread(call, scale, x), offset, bounds)


def dequantise(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Codes to numbers."""
    offset = 0.0 if zero is None else _spread(call, zero, x).to(scale.dtype)
    kind = call.integer("output_dtype")
    out = decode(x, _spread(call, scale, x), offset)
    return out.to(call.dtype(kind)) if kind else out


def dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of a byte over the range that x has, its scale and zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = straight(torch.clamp(-low / scale, 0, 255))
    return encode(x, scale, zero, BYTE), scale, zero


def _wide(codes: Tensor) -> Tensor:
    """Codes in doubles, where sums of products are exact."""
    return codes.double()


def _shifted(codes: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    if zero is None:
        return _wide(codes)
    offset = _wide(zero)
    if offset.numel() == 1:
        return _wide(codes) - offset.reshape(())
    if axis is not None and offset.dim() == 1:
        offset = along(offset, codes.dim(), axis)
    return _wide(codes) - offset


def matmul_integer(
    call: Call, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Whole numbers."""
    return _shifted(a, a_zero, -2 if a.dim() > 1 else None) @ _shifted(b, b_zero, -1)


def conv_integer(
    call: Call, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """Whole numbers; padding is the zero point."""
    return linear.conv(call, _shifted(x, x_zero), _shifted(w, w_zero, 0))


def _encoded(y: Tensor, scale: Tensor, zero: Tensor | None, axis: int | None = None) -> Tensor:
    kind = zero.dtype if zero is not None else torch.uint8
    if axis is not None and scale.dim() == 1:
        scale = along(scale, y.dim(), axis)
    return encode(
        y, scale, 0.0 if zero is None else zero.to(y.dtype), RANGES[3] if kind == torch.int8 else BYTE
    )


def _requantised(
    call: Call, sums: Tensor, scale: Tensor, y_scale: Tensor, zero: Tensor | None, axis: int = -1
) -> Tensor:
    """Whole sums to codes, by one factor in the precision of the scales, as ONNX Runtime's kernels do."""
    factor = scale / y_scale
    factor = along(factor, sums.dim(), axis) if factor.numel() > 1 and factor.dim() < 2 else factor
    bounds = RANGES[3] if zero is not None and zero.dtype == torch.int8 else BYTE
    offset = 0.0 if zero is None else zero.to(scale.dtype)
    return torch.clamp(straight(sums.to(scale.dtype) * factor) + offset, *bounds)


def qlinear_conv(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    b: Tensor | None = None,
) -> Tensor:
    """A convolution of codes."""
    last = bool(call.integer("channels_last"))
    x = x.movedim(-1, 1) if last else x
    out = linear.conv(call, _shifted(x, x_zero), _shifted(w, w_zero, 0))
    out = out if b is None else out + along(_wide(b), out.dim(), 1)
    y = _requantised(call, out, x_scale * w_scale, y_scale, y_zero, 1)
    return y.movedim(1, -1) if last else y


def qlinear_matmul(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """A product of codes."""
    product = matmul_integer(call, a, b, a_zero, b_zero)
    left = a_scale.unsqueeze(-1) if a_scale.dim() == 1 and a_scale.numel() > 1 else a_scale
    return _requantised(call, product, left * b_scale, y_scale, y_zero)


def matmul_integer_to_float(
    call: Call,
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """A product of codes, as numbers."""
    product = matmul_integer(call, a, b, a_zero, b_zero).to(a_scale.dtype)
    out = product * a_scale * b_scale
    return out if bias is None else out + bias


def dynamic_matmul(
    call: Call,
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Numbers that are quantised on the spot, times codes."""
    codes, scale, zero = dynamic(a)
    return matmul_integer_to_float(call, codes, b, scale, b_scale, zero, b_zero, bias)


def q_gemm(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    """As Gemm, of codes."""
    left, turned = _shifted(a, a_zero), bool(call.integer("transB"))
    left = left.mT if call.integer("transA") else left
    right = _shifted(b, b_zero, 0 if turned and b_zero.dim() and b_zero.numel() > 1 else -1)
    product = left @ (right.mT if turned else right)
    product = product if c is None else product + _wide(c)
    scale = a_scale * b_scale * call.real("alpha", 1.0)
    if y_scale is None:
        return product.to(scale.dtype) * scale
    return _requantised(call, product, scale, y_scale, y_zero)


def on_numbers(function: Callable[..., Tensor], operands: int = 1) -> Callable[..., Tensor]:
    """An operator on numbers, on codes that are decoded before and encoded after."""

    def run(call: Call, *inputs: Tensor) -> Tensor:
        given = [
            decode(
                inputs[3 * at], inputs[3 * at + 1], 0.0 if inputs[3 * at + 2] is None else inputs[3 * at + 2]
            )
            for at in range(operands)
        ]
        scale, zero = (
            inputs[3 * operands],
            inputs[3 * operands + 1] if len(inputs) > 3 * operands + 1 else None,
        )
        return _encoded(function(call, *given), scale, zero)

    return run


def qlinear_where(call: Call, condition: Tensor, *rest: Tensor) -> Tensor:
    """Codes of one of two tensors."""
    x, y = decode(*rest[:3]), decode(*rest[3:6])
    return _encoded(torch.where(condition, x, y), rest[6], rest[7])


def qlinear_concat(call: Call, scale: Tensor, zero: Tensor, *rest: Tensor) -> Tensor:
    """Codes one after the other, all at one scale."""
    parts = [decode(*rest[at : at + 3]) for at in range(0, len(rest), 3)]
    return _encoded(torch.cat(parts, call.integer("axis")), scale, zero)


def _pool(call: Call, x: Tensor) -> Tensor:
    if call.integer("channels_last"):
        return reduce.average_pool(call, x.movedim(-1, 1)).movedim(1, -1)
    return reduce.average_pool(call, x)


def _global_pool(call: Call, x: Tensor) -> Tensor:
    spatial = list(range(1, x.dim() - 1)) if call.integer("channels_last") else list(range(2, x.dim()))
    return x.mean(spatial, keepdim=True)


def _mean(call: Call, x: Tensor) -> Tensor:
    return x.mean(
        axes_of(call, None, x.dim()) or list(range(x.dim())), keepdim=bool(call.integer("keepdims", 1))
    )


def _softmax(call: Call, x: Tensor) -> Tensor:
    axis = call.integer("axis", -1) % x.dim()
    if call.integer("opset", 13) >= 13:
        return torch.softmax(x, axis)
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


def q_attention(
    call: Call,
    x: Tensor,
    w: Tensor,
    b: Tensor,
    x_scale: Tensor,
    w_scale: Tensor,
    mask: Tensor | None = None,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
    past: Tensor | None = None,
    added: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Attention whose projection is a product of codes."""
    both = matmul_integer_to_float(call, x, w, x_scale, w_scale, x_zero, w_zero, b)
    return projected(call, both, [both.shape[-1] // 3] * 3, mask, past, added)


def dynamic_lstm(call: Call, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    """An LSTM whose weights are codes, stored with the contracted axis first.

    ONNX Runtime rounds activations to bytes on the way, which a gradient has no use for: they stay numbers.
    """
    b, lengths, h, c, p, w_scale, w_zero, r_scale, r_zero = rest
    matrices = []
    for codes, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero)):
        assert scale is not None
        wide = [e if e is None or e.dim() < 2 else e.unsqueeze(1) for e in (scale, zero)]
        wide = [e.reshape(-1, 1, 1) if e is not None and e.dim() == 1 else e for e in wide]
        numbers = decode(codes, wide[0], 0.0 if wide[1] is None else wide[1].to(scale.dtype))
        matrices.append(numbers.mT)
    return recurrent(call, x, matrices[0], matrices[1], b, lengths, h, c, p)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return on_numbers(lambda call, a, b: function(a, b), 2)


def _names(names: Sequence[str], run: Callable[..., object]) -> dict[str, Callable[..., object]]:
    return dict.fromkeys(names, run)


MS = "com.microsoft:"
ROWS: dict[str, Callable[..., object]] = {
    **_names(["QuantizeLinear", f"{MS}QuantizeLinear"], quantise),
    **_names(["DequantizeLinear", f"{MS}DequantizeLinear"], dequantise),
    "DynamicQuantizeLinear": lambda call, x: dynamic(x),
    "MatMulInteger": matmul_integer,
    "ConvInteger": conv_integer,
    **_names(["QLinearConv", f"{MS}QLinearConv"], qlinear_conv),
    "QLinearMatMul": qlinear_matmul,
    f"{MS}MatMulIntegerToFloat": matmul_integer_to_float,
    f"{MS}DynamicQuantizeMatMul": dynamic_matmul,
    f"{MS}DynamicQuantizeLSTM": dynamic_lstm,
    f"{MS}QGemm": q_gemm,
    f"{MS}QAttention": q_attention,
    f"{MS}QLinearAdd": _binary(torch.add),
    f"{MS}QLinearMul": _binary(torch.mul),
    f"{MS}QLinearWhere": qlinear_where,
    f"{MS}QLinearLeakyRelu": on_numbers(elementwise.ROWS["LeakyRelu"]),
    f"{MS}QLinearSigmoid": on_numbers(lambda call, x: torch.sigmoid(x)),
    f"{MS}QLinearSoftmax": on_numbers(_softmax),
    f"{MS}QLinearAveragePool": on_numbers(_pool),
    f"{MS}QLinearGlobalAveragePool": on_numbers(_global_pool),
    f"{MS}QLinearReduceMean": on_numbers(_mean),
    f"{MS}QLinearConcat": qlinear_concat,
}
HOST: dict[str, tuple[int, ...]] = {}
