"""Quantised operators: scales follow the axis they belong to (docs/theory.md#quantised-operators)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.operators import Attributes, Held, Shape, Shaping, Sized, follows
from graphprune.labels.algebra import ONE, Label, is_static
from graphprune.labels.visit import Visit, factor_of
from graphprune.ops import counting as macs
from graphprune.ops.elementwise import broadcast
from graphprune.ops.operands import (
    Convolution,
    Product,
    all_fixed,
    fix_positions,
    per_slot,
    whole_blocks,
)
from graphprune.ops.record import Layer, Record, held, ops, traits
from graphprune.ops.shaping import SAME, always, global_pool, joined, product
from graphprune.ops.shaping import broadcast as broadcast_shape
from graphprune.ops.shaping import conv as conv_shape
from graphprune.ops.traits import Trait


def conv_integer(visit: Visit) -> None:
    """As Conv, with integer operands: removed slots read as the zero point."""
    form = Convolution(x_zero=2)
    out = form.visit(visit)
    if out is not None:
        per_slot(visit, 3, out, "table")
        visit.out(form.result(visit, out))


def qlinear_conv(visit: Visit) -> None:
    """As Conv, with scale and zero point of the weight per output channel."""
    form = Convolution(x=0, w=3, x_zero=2)
    out = form.visit(visit)
    if out is None:
        return
    single(visit, 1, 2, 6, 7)
    for position, role in ((4, "scale"), (5, "table"), (8, "bias")):
        per_slot(visit, position, out, role)
    visit.out(form.result(visit, out))


def single(visit: Visit, *positions: int) -> None:
    """Scales and zero points of a whole tensor; if they turn out to have axes, those are fixed."""
    for position in positions:
        for label in visit.axes(position) if visit.has(position) else ():
            visit.fix(label, "it is the scale of a whole tensor")


def _row_scaled(visit: Visit, rows: Label, *positions: int) -> None:
    """Scales of A: one for the tensor, or one per row of the product (shape [M])."""
    for position in positions:
        if (
            visit.has(position)
            and visit.shape(position) is not None
            and len(visit.shape(position) or ()) == 1
        ):
            per_slot(visit, position, rows)
        else:
            single(visit, position)


def _product(visit: Visit, form: Product, a_side: tuple[int, ...], b_side: dict[int, str]) -> None:
    found = form.visit(visit)
    if found is None:
        return
    out, columns = found
    _row_scaled(visit, out[-2] if len(out) > 1 else (), *a_side)
    for position, role in b_side.items():
        per_slot(visit, position, columns, role)
    visit.out(out)


def matmul_integer(visit: Visit) -> None:
    """As MatMul; zero points per row of A and per column of B."""
    _product(visit, Product(a_zero=2, b_zero=3), (2,), {3: "table"})


def qlinear_matmul(visit: Visit) -> None:
    """As MatMul; scales per row of A and per column of B."""
    single(visit, 6, 7)
    _product(visit, Product(a=0, b=3, a_zero=2, b_zero=5), (1, 2), {4: "scale", 5: "table"})


def matmul_integer_to_float(visit: Visit) -> None:
    """As MatMul; scale, zero point and bias per column of B."""
    _product(visit, Product(a_zero=4, b_zero=5), (2, 4), {3: "scale", 5: "table", 6: "bias"})


def dynamic_quantize_matmul(visit: Visit) -> None:
    """As MatMul; A is quantised by its range, which zeros in removed slots do not change."""
    _product(visit, Product(), (), {2: "scale", 3: "table", 4: "bias"})
    _whole_range(visit)


def q_gemm(visit: Visit) -> None:
    """As Gemm; B's scale and zero point, and the bias, per column."""
    form = Product(0, 3, 2, 5, visit.int_attr("transA", 0) == 1, visit.int_attr("transB", 0) == 1)
    single(visit, 1, 2, 7, 8)
    _product(visit, form, (), {4: "scale", 5: "table", 6: "bias"})


def dynamic_quantize(visit: Visit) -> None:
    """Out = in; the range always contains 0, so it is that of the kept slots once removed ones are masked."""
    _whole_range(visit)
    visit.out(visit.axes(0))
    for position in (1, 2):
        visit.out([], position)


def _whole_range(visit: Visit) -> None:
    for axis in range(visit.rank(0)):
        visit.contract(0, axis)


def quantize(visit: Visit) -> None:
    """Out = in; a scale per channel is tied to its axis, a blocked scale to whole blocks of it."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    visit.roles(0, "table")  # of a weight, the node that multiplies with it says more
    axes, axis = visit.axes(0), visit.int_attr("axis", 1)
    for position, role in ((1, "scale"), (2, "table")):
        if not visit.has(position):
            continue
        visit.roles(position, role)
        scale = visit.shape(position) or ()
        if len(scale) == 1 and scale != (ONE,):
            visit.equal(axes[axis], visit.axis(position, 0))
        elif len(scale) == len(axes) and len(scale) > 1:
            _blocked_scale(visit, position, axis % len(axes))
    visit.out(axes)


def _blocked_scale(visit: Visit, position: int, axis: int) -> None:
    """Scale has the rank of x; along `axis` it holds one element per block."""
    for other, label in enumerate(visit.axes(position)):
        if other != axis:
            visit.equal(visit.axis(0, other), label)
    whole = (visit.shape(0) or ())[axis][0]
    blocks = (visit.shape(position) or ())[axis][0]
    outer = whole_blocks(visit, visit.axis(0, axis), whole, blocks)
    if outer is None:
        visit.fix(visit.axis(position, axis), "its blocks cannot be divided")
    else:
        visit.equal(visit.axis(position, axis), outer)


def qlinear_binary(visit: Visit) -> None:
    """As Add and Mul."""
    single(visit, 1, 2, 4, 5, 6, 7)
    _broadcast(visit, [0, 3])


def qlinear_where(visit: Visit) -> None:
    """As Where."""
    single(visit, 2, 3, 5, 6, 7, 8)
    _broadcast(visit, [0, 1, 4])


def _broadcast(visit: Visit, positions: list[int]) -> None:
    if any(visit.shape(p) is None for p in positions):
        visit.fix_all("an operand's shape is not known")
        return
    for position in positions:
        visit.roles(position, "table")
    visit.out(broadcast(visit, positions))


def qlinear_unary(visit: Visit) -> None:
    """Out = in."""
    single(visit, 1, 2, 3, 4)
    visit.out(visit.axes(0))


def qlinear_softmax(visit: Visit) -> None:
    """Out = in; the normalised axes are fixed."""
    axes = visit.axes(0)
    axis = visit.int_attr("axis", -1) % len(axes)
    for label in axes[axis:] if visit.int_attr("opset", 13) < 13 else [axes[axis]]:
        visit.fix(label, "QLinearSoftmax normalises over it")
    qlinear_unary(visit)


def qlinear_pool(visit: Visit) -> None:
    """Batch and channels pass."""
    single(visit, 1, 2, 3, 4)
    channel = -1 if visit.int_attr("channels_last", 0) else 1
    fix_positions(visit, channel=channel)
    out = all_fixed(visit, visit.rank(0))
    out[0], out[channel] = visit.axis(0, 0), visit.axis(0, channel)
    visit.out(out)


def qlinear_reduce_mean(visit: Visit) -> None:
    """Reduced axes are fixed, because an integer mean cannot be corrected for its count."""
    axes = visit.axes(0)
    reduced = {axis % len(axes) for axis in visit.ints_attr("axes") or range(len(axes))}
    for axis in reduced:
        visit.fix(axes[axis], "QLinearReduceMean averages over it")
    keep = visit.int_attr("keepdims", 1)
    visit.out([() if i in reduced else label for i, label in enumerate(axes) if keep or i not in reduced])


def qlinear_concat(visit: Visit) -> None:
    """out.a = slots of the inputs in turn; other axes are tied."""
    positions = list(range(2, visit.count, 3))
    single(visit, *(p for p in range(visit.count) if p not in positions))
    shapes = [visit.shape(p) for p in positions]
    axis = visit.int_attr("axis", 0)
    if not all(shape is not None and is_static(shape[axis]) for shape in shapes):
        visit.fix_all("an operand's shape is not known")
        return
    axis %= visit.rank(positions[0])
    out = list(visit.axes(positions[0]))
    for position in positions[1:]:
        for other in range(len(out)):
            if other != axis:
                visit.equal(out[other], visit.axis(position, other))
    pieces = [
        visit.flat_or_pinned(visit.axis(p, axis), (visit.shape(p) or ())[axis][0], p) for p in positions
    ]
    out[axis] = factor_of(np.concatenate(pieces))
    visit.out(out)


def code_kind(at: Attributes, output: int) -> ir.DataType | None:
    """What the attribute says, else what the zero point is; bytes without one."""
    if at.number("output_dtype"):
        return ir.DataType(at.number("output_dtype"))
    return at.kind(2) if at.has(2) else ir.DataType.UINT8


def reduce_shape(at: Sized) -> list[Shape | None]:
    """Without the reduced axes, or with one slot in them."""
    x, keep = at.input(0), at.number("keepdims", 1)
    gone = {axis % len(x) for axis in at.numbers("axes") or range(len(x))}
    return [tuple(ONE if i in gone else size for i, size in enumerate(x) if keep or i not in gone)]


def qlinear_concat_shape(at: Sized) -> list[Shape | None] | None:
    """As Concat; every part comes with its scale and zero point."""
    return joined(at, [at.input(position) for position in range(2, len(at.node.inputs), 3)])


ROWS = (
    Record(
        ops("ConvInteger"),
        conv_integer,
        "as Conv; w_zero_point = W.0",
        "contraction",
        "W, zero point, `group`",
        macs.conv(),
        shaping=Shaping(kind=always(ir.DataType.INT32)),
        layer=Layer(1, 0, 1, channel=1, kernel="columns", result="hidden"),
        held=(Held(0, (), 2), Held(1, (), 3, axis=0)),
        traits=traits(Trait.CONVOLUTION, Trait.CODES),
    ),
    Record(
        ops("QLinearConv") + ops("QLinearConv", "com.microsoft"),
        qlinear_conv,
        "as Conv; w_scale = w_zero_point = W.0",
        "contraction",
        "W, scale, zero point, bias, `group`",
        macs.conv(weight=3),
        shaping=Shaping(conv_shape(3), follows(7)),
        layer=Layer(3, 0, 1, bias=8, channel=1, kernel="columns", result="hidden"),
        held=(Held(0, (1,), 2), Held(3, (4,), 5, axis=0), Held(8, (1, 4))),
        traits=traits(Trait.CONVOLUTION, Trait.CODES),
    ),
    Record(
        ops("MatMulInteger"),
        matmul_integer,
        "as MatMul",
        "contraction",
        "B, zero point",
        macs.matmul,
        shaping=Shaping(kind=always(ir.DataType.INT32)),
        layer=Layer(1, -1, -2, result="hidden"),
        held=(Held(0, (), 2), Held(1, (), 3)),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("QLinearMatMul"),
        qlinear_matmul,
        "as MatMul",
        "contraction",
        "B, scale, zero point",
        macs.matmul,
        shaping=Shaping(kind=follows(7)),
        layer=Layer(3, -1, -2, result="hidden"),
        held=(Held(0, (1,), 2), Held(3, (4,), 5)),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("MatMulIntegerToFloat", "com.microsoft"),
        matmul_integer_to_float,
        "as MatMul",
        "contraction",
        "B, scale, zero point, bias",
        macs.matmul,
        shaping=Shaping(product(), follows(2)),
        layer=Layer(1, -1, -2, bias=6),
        held=(Held(0, (2,), 4), Held(1, (3,), 5), Held(6)),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("DynamicQuantizeMatMul", "com.microsoft"),
        dynamic_quantize_matmul,
        "as MatMul; removed slots of A are masked before its range is taken",
        "contraction",
        "B, scale, bias",
        macs.matmul,
        shaping=Shaping(product()),
        layer=Layer(1, -1, -2, bias=4),
        held=(Held(0), Held(1, (2,), 3), Held(4)),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("QGemm", "com.microsoft"),
        q_gemm,
        "as Gemm",
        "contraction",
        "B, scale, zero point, bias",
        macs.gemm,
        shaping=Shaping(product(0, 3)),
        layer=Layer(3, -1, -2, bias=6, factor="alpha", result="hidden"),
        held=(Held(0, (1,), 2), Held(3, (4,), 5), Held(6, (1, 4))),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("DynamicQuantizeLinear"),
        dynamic_quantize,
        "out = in; removed slots are masked before the range is taken",
        "reduction",
    ),
    Record(
        ops("QuantizeLinear") + ops("QuantizeLinear", "com.microsoft"),
        quantize,
        "out = in; scale = zero point = x.axis, blocked: whole blocks",
        "parallel",
        "x, scale, zero point",
        shaping=replace(SAME, kind=code_kind),
        held=held(0),
        traits=traits(Trait.QUANTISE),
    ),
    Record(
        ops("DequantizeLinear") + ops("DequantizeLinear", "com.microsoft"),
        quantize,
        "as QuantizeLinear",
        "parallel",
        "x, scale, zero point",
        shaping=replace(SAME, kind=follows(1)),
        held=(Held(0, (1,), 2, axis=1),),
        traits=traits(Trait.DEQUANTISE, Trait.CODES),
    ),
    Record(
        ops("QLinearAdd", "com.microsoft"),
        qlinear_binary,
        "as Add",
        "parallel",
        shaping=Shaping(broadcast_shape(0, 3)),
        held=held(0, 3),
        traits=traits(Trait.AFFINE),
    ),
    Record(
        ops("QLinearMul", "com.microsoft"),
        qlinear_binary,
        "as Add",
        "parallel",
        shaping=Shaping(broadcast_shape(0, 3)),
        held=held(0, 3),
        traits=traits(Trait.MULTIPLY, Trait.SCALE, Trait.AFFINE),
    ),
    Record(
        ops("QLinearWhere", "com.microsoft"),
        qlinear_where,
        "as Where",
        "parallel",
        shaping=Shaping(broadcast_shape(0, 1, 4), follows(1)),
        held=held(1, 4),
    ),
    Record(
        ops("QLinearLeakyRelu", "com.microsoft"),
        qlinear_unary,
        "out = in",
        "parallel",
        shaping=SAME,
        held=held(0),
    ),
    Record(
        ops("QLinearSigmoid", "com.microsoft"),
        qlinear_unary,
        "out = in",
        "parallel",
        shaping=SAME,
        held=held(0),
        traits=traits(Trait.SIGMOID),
    ),
    Record(
        ops("QLinearSoftmax", "com.microsoft"),
        qlinear_softmax,
        "out = in; the normalised axis is fixed",
        "normaliser",
        shaping=SAME,
        held=held(0),
        traits=traits(Trait.PROBABILITIES),
    ),
    Record(
        ops("QLinearAveragePool", "com.microsoft"),
        qlinear_pool,
        "batch and channels pass",
        "parallel",
        held=held(0),
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("QLinearGlobalAveragePool", "com.microsoft"),
        qlinear_pool,
        "batch and channels pass",
        "parallel",
        shaping=Shaping(global_pool),
        held=held(0),
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("QLinearReduceMean", "com.microsoft"),
        qlinear_reduce_mean,
        "reduced axes are fixed",
        "frozen",
        shaping=Shaping(reduce_shape),
        held=held(0),
    ),
    Record(
        ops("QLinearConcat", "com.microsoft"),
        qlinear_concat,
        "as Concat",
        "structural",
        shaping=Shaping(qlinear_concat_shape, follows(2)),
    ),
)
