"""Operators that a runtime fused: sums of rows that stand elsewhere (docs/theory.md#fused-operators)."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from graphprune.ir.operators import Attributes, Shape, Shaping, Sized
from graphprune.labels.algebra import ONE, Label, is_fixed, is_static
from graphprune.labels.edits import AttributeCount, RmsCompensation
from graphprune.labels.visit import Visit
from graphprune.ops import counting as macs
from graphprune.ops.counting import At, Place, Term
from graphprune.ops.elementwise import broadcast, elementwise, scan
from graphprune.ops.linear import gemm
from graphprune.ops.norm import admit
from graphprune.ops.operands import Convolution, Product, all_fixed, fix_positions, per_slot
from graphprune.ops.record import Indices, Layer, Record, held, ops, traits
from graphprune.ops.shaping import BROADCAST, SAME, product, scaled
from graphprune.ops.shaping import broadcast as broadcast_shape
from graphprune.ops.shaping import conv as conv_shape
from graphprune.ops.traits import Trait


def fused_matmul(visit: Visit) -> None:
    """As MatMul, with transpositions; a scalar factor and an activation change nothing."""
    if visit.int_attr("transBatchA", 0) or visit.int_attr("transBatchB", 0):
        visit.fix_all("a transposed batch axis is not analysed")
        return
    form = Product(trans_a=visit.int_attr("transA", 0) == 1, trans_b=visit.int_attr("transB", 0) == 1)
    found = form.visit(visit)
    if found is None:
        return
    if visit.str_attr("activation", "") == "Softmax":
        visit.fix(found[1], "an inner Softmax normalises over it")
    visit.out(found[0])


def matmul_bias(visit: Visit) -> None:
    """MatMul, a bias and an activation."""
    found = Product().visit(visit)
    if found is not None:
        per_slot(visit, 2, found[1], "bias")
        visit.out(found[0])


def biased(visit: Visit) -> None:
    """Inputs are added with broadcasting, then an activation works slot by slot."""
    positions = [p for p in range(visit.count) if visit.has(p)]
    for position in positions[1:]:
        visit.roles(position, "bias")
    visit.out(broadcast(visit, positions))


def bias_dropout(visit: Visit) -> None:
    """Data + bias + residual; the mask has the labels of the data."""
    positions = [p for p in range(min(3, visit.count)) if visit.has(p)]
    visit.roles(1, "bias")
    out = broadcast(visit, positions)
    for position in range(len(visit.node.outputs)):
        visit.out(out, position)


def bias_softmax(visit: Visit) -> None:
    """Data + bias; the normalised axes are fixed."""
    axes = visit.axes(0)
    for label in axes[visit.int_attr("axis", 1) % len(axes) :]:
        visit.fix(label, "BiasSoftmax normalises over it")
    if visit.int_attr("is_inner_broadcast", 1) == 0:
        for label in (*axes, *visit.axes(1)):
            visit.fix(label, "BiasSoftmax repeats its bias over it")
        visit.out(axes)
        return
    visit.out(broadcast(visit, [0, 1]))


def bias_split_gelu(visit: Visit) -> None:
    """X + bias = (linear part, gate); the result is their product, so both go together."""
    axes, shape = visit.axes(0), visit.shape(0) or (ONE,)
    per_slot(visit, 1, axes[-1], "bias")
    width = shape[-1][0]
    refined = visit.refine(axes[-1], (2, width // 2)) if is_static(shape[-1]) and width % 2 == 0 else None
    if refined is None:
        visit.fix(axes[-1], "its gate cannot be divided")
        visit.out([*axes[:-1], visit.fixed((width // 2, width // 2))])
        return
    visit.fix(visit.between(refined, 1, 2), "gate and linear part go together")
    visit.out([*axes[:-1], visit.between(refined, 2, width)])


def _sum_of(visit: Visit, positions: tuple[int, ...]) -> list[Label]:
    return broadcast(visit, [p for p in positions if visit.has(p)])


def _skip_roles(visit: Visit, scale: int, biases: tuple[int, ...]) -> None:
    visit.roles(scale, "scale")
    for position in biases:
        visit.roles(position, "bias")


def skip_layer_norm(visit: Visit) -> None:
    """Input + skip + bias, then LayerNormalization over the last axis; output 3 is the sum itself."""
    total = _sum_of(visit, (0, 1, 4))
    _skip_roles(visit, 2, (3, 4))
    for position in (2, 3):
        if visit.has(position):
            visit.equal(visit.axis(position, -1), total[-1])
    _refuse_or_slice(visit, total[-1], (0, 1, 4))
    _skip_outputs(visit, total)


def _refuse_or_slice(visit: Visit, width: Label, positions: tuple[int, ...]) -> None:
    """A fused LayerNorm shrinks only as an inexact cut; its exact expansion needs the unfused operators."""
    if is_fixed(width):
        return
    if visit.options.layernorm == "expand":
        visit.fix(
            width, f"{visit.node.op_type} normalises over it", "export the model without fused operators"
        )
        return
    if not admit(visit, width, visit.node.op_type):
        return
    for position in positions:
        if visit.has(position):
            visit.contract(position, -1)
    visit.inexact(width)


def skip_rms_norm(visit: Visit) -> None:
    """Input + skip + bias, then RMSNormalization; gamma and epsilon are compensated."""
    total = _sum_of(visit, (0, 1, 3))
    _skip_roles(visit, 2, (3,))
    visit.equal(visit.axis(2, -1), total[-1])
    if not is_fixed(total[-1]):
        if not visit.is_constant(2):
            visit.fix(total[-1], f"the scale of {visit.node.op_type} cannot be compensated")
        for position in (0, 1, 3):
            if visit.has(position):
                visit.contract(position, -1)
        visit.edit(RmsCompensation(visit.node, total[-1], 2, "epsilon", 1e-12))
    _skip_outputs(visit, total)


def _skip_outputs(visit: Visit, total: list[Label]) -> None:
    for position in (0, 3):
        visit.out(total, position)
    for position in (1, 2):
        visit.out([*total[:-1], ()], position)


def embed_layer_norm(visit: Visit) -> None:
    """Columns of word, position and segment tables are added and normalised; rows are indexed."""
    width = visit.axis(2, -1)
    for position in (2, 3, 4):
        if visit.has(position):
            visit.roles(position, "source")
            visit.role(position, 0, "table")
            visit.fix(visit.axis(position, 0), "it is indexed at run time")
            visit.equal(visit.axis(position, -1), width)
    for position, role in ((5, "scale"), (6, "bias")):
        visit.roles(position, role)
        visit.equal(visit.axis(position, -1), width)
    _refuse_or_slice(visit, width, (2, 3, 4))
    out = [*visit.axes(0), width]
    visit.out(out)
    if len(visit.node.outputs) > 1:
        visit.out(visit.top(1), 1)
    visit.out(out, 2)


def nhwc_conv(visit: Visit) -> None:
    """As Conv with channels last; Z is added to the result."""
    form = Convolution(channel=-1)
    out = form.visit(visit)
    if out is None:
        return
    per_slot(visit, 2, out, "bias")
    labels = form.result(visit, out)
    if visit.has(3):
        for label, other in zip(labels, visit.axes(3), strict=True):
            visit.equal(label, other)
    visit.out(labels)


def nhwc_pool(visit: Visit) -> None:
    """Batch and channels (last) pass; spatial axes are fixed."""
    fix_positions(visit, channel=-1)
    out = all_fixed(visit, visit.rank(0))
    out[0], out[-1] = visit.axis(0, 0), visit.axis(0, -1)
    visit.out(out)


def group_norm(visit: Visit) -> None:
    """Channels = (groups, inner): whole groups go, inner is fixed; skip and bias are added before."""
    shape = visit.shape(0)
    channel = -1 if visit.int_attr("channels_last", 1) else 1
    groups = visit.int_attr("groups", 1)
    if shape is None or not is_static(shape[channel]) or not groups:
        visit.fix_all("its shape is not known here")
        return
    fix_positions(visit, channel=channel)
    x, width = visit.axis(0, channel), shape[channel][0]
    refined = visit.refine(x, (groups, width // groups))
    if refined is not None:
        visit.fix(visit.between(refined, groups, width), "GroupNorm normalises over its groups")
        visit.edit(AttributeCount(visit.node, "groups", visit.between(refined, 1, groups)))
    for position, role in ((1, "scale"), (2, "bias"), (4, "bias")):
        per_slot(visit, position, x, role)
    if visit.has(3):
        _skip_of(visit, channel)
    for position in range(len(visit.node.outputs)):
        visit.out(visit.axes(0), position)


def _skip_of(visit: Visit, channel: int) -> None:
    """The skip input has the shape of x, or no spatial extent, or only batch and channels."""
    skip = visit.shape(3) or ()
    if len(skip) == 2:
        visit.equal(visit.axis(3, 1), visit.axis(0, channel))
        return
    for axis, size in enumerate(skip):
        if size != ONE:
            visit.equal(visit.axis(3, axis), visit.axis(0, axis))


def causal_conv(visit: Visit) -> None:
    """A depthwise convolution over time whose state has the channels of its input."""
    if (
        visit.int_attr("channels_last", 0)
        or visit.int_attr("state_window", 0)
        or visit.int_attr("ndim", 1) != 1
    ):
        visit.fix_all("CausalConvWithState in other layouts is not analysed")
        return
    batch, channels, time = visit.axes(0)
    visit.roles(1, "scale")
    visit.equal(channels, visit.axis(1, 0))
    per_slot(visit, 2, channels, "bias")
    for label in (time, *visit.axes(1)[1:]):
        visit.fix(label, "CausalConvWithState runs along it")
    if visit.has(3):
        visit.roles(3, "table")
        visit.equal(visit.axis(3, 0), batch)
        visit.equal(visit.axis(3, 1), channels)
        visit.fix(visit.axis(3, 2), "CausalConvWithState runs along it")
    visit.out([batch, channels, visit.fixed((visit.out_shape() or (ONE,) * 3)[2])])
    if len(visit.node.outputs) > 1:
        visit.out([batch, channels, visit.fixed((visit.out_shape(1) or (ONE,) * 3)[2])], 1)


def opaque(visit: Visit) -> None:
    """A fused operator that is kept whole."""
    visit.fix_all(f"{visit.node.op_type} is kept whole")


def causal_conv_macs(at: At) -> list[Term]:
    """Depthwise: a window in time per element."""
    return [Term(prod(at.output()) * at.input(1)[-1], (Place.output(1),))]


def skip_norm_shape(at: Sized) -> list[Shape | None]:
    """The result, mean and inverse deviation, and the sum."""
    x = at.input(0)
    statistics = (*x[:-1], ONE)
    return [x, statistics, statistics, x]


def skip_norm_kind(at: Attributes, output: int) -> ir.DataType | None:
    """Statistics are taken in single precision."""
    return ir.DataType.FLOAT if output in (1, 2) else at.kind(0)


SKIP = Shaping(skip_norm_shape, skip_norm_kind, axes="slotwise")


def embedded_shape(at: Sized) -> list[Shape | None]:
    """A row of the tables per token, the length of every sequence, and the sum."""
    tokens = at.input(0)
    rows = (*tokens, at.input(2)[-1])
    return [rows, tokens[:1], rows]


def embedded_kind(at: Attributes, output: int) -> ir.DataType | None:
    """As the table of words; lengths are counts."""
    return ir.DataType.INT32 if output == 1 else at.kind(2)


def half_shape(at: Sized) -> list[Shape | None]:
    """The last axis halved: it is gate and linear part."""
    x = at.input(0)
    return [(*x[:-1], scaled(x[-1], 1, 2))]


def twice(at: Sized) -> list[Shape | None]:
    """The result and the sum are like the input."""
    return [at.input(0)] * 2


def causal_conv_shape(at: Sized) -> list[Shape | None]:
    """As the input, and the end of it that the next window needs."""
    x, weight = at.input(0), at.input(1)
    length = (weight[2][0] - 1) * at.number("dilation", 1)
    plain = not at.number("channels_last") and not at.number("state_window") and len(x) == 3
    return [x, (x[0], x[1], (length, length)) if plain else None]


BLOCKED = {
    "AveragePool MaxPool GlobalAveragePool GlobalMaxPool": Trait.WINDOW,
    "ReorderInput ReorderOutput": Trait.BLOCKS,
    "Upsample": Trait.RESIZE,
}
PRODUCTS = {"FusedMatMul TransposeMatMul": traits(Trait.PRODUCT), "FusedMatMulActivation": traits()}
ROWS = (
    *(
        Record(
            ops(names, "com.microsoft"),
            fused_matmul,
            "as MatMul with transpositions",
            "contraction",
            "the constant operand",
            macs.matmul,
            shaping=Shaping(product()),
            layer=Layer(1, -1, -2, either=True, result="fused"),
            traits=what,
        )
        for names, what in PRODUCTS.items()
    ),
    Record(
        ops("FusedGemm", "com.microsoft"),
        gemm,
        "as Gemm",
        "contraction",
        "B, C",
        macs.gemm,
        shaping=Shaping(product()),
        layer=Layer(1, -1, -2, bias=2, either=True, result="fused"),
        traits=traits(Trait.PRODUCT),
    ),
    Record(
        ops("GemmFastGelu", "com.microsoft"),
        matmul_bias,
        "as MatMul with bias",
        "contraction",
        "B, bias",
        macs.matmul,
        shaping=Shaping(product()),
        layer=Layer(1, -1, -2, bias=2, result="fused"),
    ),
    Record(
        ops("BiasGelu FastGelu", "com.microsoft"),
        biased,
        "as Add",
        "parallel",
        "bias",
        shaping=BROADCAST,
        traits=traits(Trait.ACTIVATION),
    ),
    Record(
        ops("BiasAdd", "com.microsoft"),
        biased,
        "as Add",
        "parallel",
        "bias",
        shaping=BROADCAST,
    ),
    Record(
        ops("BiasDropout BitmaskBiasDropout", "com.microsoft"),
        bias_dropout,
        "as Add",
        "parallel",
        "bias",
        shaping=Shaping(broadcast_shape(0, 1, 2)),
    ),
    Record(
        ops("BiasSoftmax", "com.microsoft"),
        bias_softmax,
        "as Add; the normalised axes are fixed",
        "normaliser",
        shaping=SAME,
    ),
    Record(
        ops("BiasSplitGelu", "com.microsoft"),
        bias_split_gelu,
        "x.2 = 2 x n, out = n",
        "structural",
        "bias",
        shaping=Shaping(half_shape),
    ),
    Record(
        ops("SwiGLU") + ops("ScaledSiLU", "com.microsoft"),
        elementwise,
        "as Mul",
        "parallel",
        shaping=BROADCAST,
    ),
    Record(
        ops("Trilu", "com.microsoft"),
        scan,
        "out = in; the walked axes are fixed",
        "frozen",
        shaping=SAME,
    ),
    Record(
        ops("SkipLayerNormalization", "com.microsoft"),
        skip_layer_norm,
        "input = skip = scale = bias; output 3 is the sum",
        "normaliser",
        "vectors; inexact only",
        shaping=SKIP,
        traits=traits(Trait.ADDS),
    ),
    Record(
        ops("SkipSimplifiedLayerNormalization", "com.microsoft"),
        skip_rms_norm,
        "input = skip = scale = bias; output 3 is the sum",
        "count",
        "scale x sqrt(n/n'), epsilon x n/n'",
        shaping=SKIP,
        traits=traits(Trait.ADDS),
    ),
    Record(
        ops("EmbedLayerNormalization", "com.microsoft"),
        embed_layer_norm,
        "table columns = scale = bias",
        "normaliser",
        "tables, vectors; inexact only",
        shaping=Shaping(embedded_shape, embedded_kind),
        indices=(Indices(0, 2, 0), Indices(1, 4, 0), Indices(7, 3, 0)),
        traits=traits(Trait.LOOKUP),
    ),
    Record(
        ops("NhwcConv NhwcFusedConv", "com.microsoft"),
        nhwc_conv,
        "as Conv, channels last",
        "contraction",
        "W, bias, `group`",
        macs.conv(channel=-1),
        shaping=Shaping(conv_shape(last=True)),
        layer=Layer(1, 0, 1, bias=2, kernel="columns", result="fused"),
    ),
    Record(
        ops("NhwcMaxPool", "com.microsoft"),
        nhwc_pool,
        "batch and channels pass",
        "parallel",
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("GroupNorm SkipGroupNorm", "com.microsoft"),
        group_norm,
        "channels = groups x inner; inner is fixed",
        "parallel",
        "scale, bias, `groups`",
        shaping=Shaping(twice),
        traits=traits(Trait.OTHER_NORM),
    ),
    Record(
        ops("CausalConvWithState") + ops("CausalConvWithState", "com.microsoft"),
        causal_conv,
        "x.1 = W.0 = bias = state.1",
        "parallel",
        "W, bias, state",
        causal_conv_macs,
        shaping=Shaping(causal_conv_shape),
    ),
    Record(
        ops("QEmbedLayerNormalization", "com.microsoft"),
        opaque,
        "all axes fixed",
        "frozen",
        held=held(2, 3, 4, 5, 6),
    ),
    Record(
        ops(
            "QOrderedGelu QOrderedLayerNormalization ComplexMul ComplexMulConj "
            "Irfft Rfft UnfoldTensor BranchwiseRMSNorm GatedRMSNorm GatedAdd HyperConnectionPostMix "
            "HyperConnectionPreMix Inverse CDist MulInteger TorchEmbedding",
            "com.microsoft",
        ),
        opaque,
        "all axes fixed",
        "frozen",
    ),
    Record(
        ops(
            "ConvTransposeWithDynamicPads VarlenCausalConvWithState AttnLSTM MatMulInteger16 "
            "SparseToDenseMatMul",
            "com.microsoft",
        ),
        opaque,
        "all axes fixed",
        "frozen",
        macs=macs.unknown,
    ),
    Record(
        ops("Conv", "com.microsoft.nchwc"),
        opaque,
        "all axes fixed: channels are stored in hardware blocks",
        "frozen",
        macs=macs.unknown,
    ),
    *(
        Record(
            ops(names, "com.microsoft.nchwc"),
            opaque,
            "all axes fixed: channels are stored in hardware blocks",
            "frozen",
            traits=traits(what),
        )
        for names, what in BLOCKED.items()
    ),
)
