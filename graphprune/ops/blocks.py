"""Weights packed in quantisation blocks along K (docs/theory.md#quantised-operators)."""

from __future__ import annotations

import onnx_ir as ir

from graphprune.ir.operators import Held, Pairs, Shape, Shaping, Sized, follows
from graphprune.labels.algebra import Label
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops import counting as macs
from graphprune.ops.operands import per_slot, whole_blocks
from graphprune.ops.record import Indices, Layer, Record, ops, traits
from graphprune.ops.shaping import scaled
from graphprune.ops.traits import Trait

PACKED = "its values are packed across rows"


def matmul_nbits(visit: Visit) -> None:
    """N as in MatMul; K in whole blocks: B[N, K/block, bytes], scales [N, K/block] or flat."""
    shape = visit.shape(0)
    rows, depth = visit.int_attr("N", 0), visit.int_attr("K", 0)
    block = visit.int_attr("block_size", 0)
    if (
        shape is None
        or visit.has(4)
        or visit.int_attr("weight_prepacked", 0)
        or not block
        or visit.rank(1) != 3
    ):
        visit.fix_all("MatMulNBits with reordered or prepacked weights is not analysed")
        return
    count = (visit.shape(1) or ())[1][0]
    columns, weight = visit.axis(1, 0), visit.axes(1)
    visit.fix(weight[2], "a quantisation block is kept whole")
    outer = whole_blocks(visit, visit.axis(0, -1), depth, count) if depth == count * block else None
    if outer is None:
        for label in (visit.axis(0, -1), weight[1]):
            visit.fix(label, "its last quantisation block is not full")
    else:
        visit.equal(outer, weight[1])
    visit.contract(0, -1)
    _companion(visit, 2, rows, count)
    _companion(visit, 3, rows, count)
    per_slot(visit, 5, columns, "bias")
    for position, role in ((1, "source"), (2, "scale"), (3, "table")):
        visit.roles(position, role)
    visit.role(1, 1, "sink")
    visit.edit(AttributeCount(visit.node, "N", columns))
    visit.edit(AttributeCount(visit.node, "K", visit.axis(0, -1)))
    visit.out([*visit.axes(0)[:-1], columns])


def _companion(visit: Visit, position: int, rows: int, count: int) -> None:
    """Scales or zero points: one element per row and block; packed zero points keep their blocks."""
    if not visit.has(position):
        return
    shape = visit.shape(position) or ()
    total = 1
    for size in shape:
        total *= size[0]
    per_row = total // rows if rows and total % rows == 0 else 0
    if len(shape) == 2:
        row, inner = visit.axis(position, 0), visit.axis(position, 1)
    else:
        refined = (
            visit.refine(visit.axis(position, 0), (rows, per_row)) if per_row and len(shape) == 1 else None
        )
        if refined is None:
            visit.fix(visit.axis(1, 0), PACKED)
            visit.fix(visit.axis(1, 1), PACKED)
            for label in visit.axes(position):
                visit.fix(label, PACKED)
            return
        row, inner = visit.between(refined, 1, rows), visit.between(refined, rows, total)
    visit.equal(row, visit.axis(1, 0))
    _inner(visit, inner, per_row, count)


def _inner(visit: Visit, inner: Label, per_row: int, count: int) -> None:
    blocks = visit.axis(1, 1)
    if per_row == count:
        visit.equal(inner, blocks)
    elif per_row and count % per_row == 0:
        packed = whole_blocks(visit, blocks, count, per_row)
        visit.equal(inner, packed if packed is not None else visit.fixed((per_row, per_row), PACKED))
    else:
        visit.fix(inner, "zero points of several blocks share a byte")
        visit.fix(blocks, "zero points of several blocks share a byte")


def gather_block_quantized(visit: Visit) -> None:
    """The rows are indexed at run time; columns go in whole quantisation blocks."""
    data, scales = visit.shape(0), visit.shape(2)
    out = visit.out_shape()
    last = -1 if data is None else len(data) - 1
    axis = visit.int_attr("quantize_axis", 1)
    if (
        data is None
        or scales is None
        or out is None
        or len(data) != 2
        or axis % 2 != 1
        or visit.int_attr("gather_axis", 0)
    ):
        visit.fix_all("GatherBlockQuantized along other axes is not analysed")
        return
    visit.fix(visit.axis(0, 0), "it is indexed at run time")
    visit.fix(visit.axis(2, 0), "it is indexed at run time")
    visit.roles(0, "source")
    visit.role(0, 0, "table")
    visit.roles(2, "scale")
    blocks, width = scales[1][0], out[-1][0]
    stored = whole_blocks(visit, visit.axis(0, last), data[last][0], blocks)
    label: Label | None = None
    if stored is not None and width % blocks == 0 and _zero_points_match(visit, blocks):
        visit.equal(stored, visit.axis(2, 1))
        label = (
            *stored,
            *visit.fixed((width // blocks, width // blocks), "a quantisation block is kept whole"),
        )
    else:
        visit.fix(visit.axis(0, last), PACKED)
        visit.fix(visit.axis(2, 1), PACKED)
    visit.out([*visit.axes(1), label if label is not None else visit.fixed(out[-1], PACKED)])


def _zero_points_match(visit: Visit, blocks: int) -> bool:
    if not visit.has(3):
        return True
    shape = visit.shape(3) or ()
    same = len(shape) == 2 and shape[1][0] == blocks
    visit.fix(visit.axis(3, 0), "it is indexed at run time")
    visit.roles(3, "table")
    if same:
        visit.equal(visit.axis(3, 1), visit.axis(2, 1))
    else:
        visit.fix(visit.axis(3, -1), PACKED)
    return same


def prepacked(visit: Visit) -> None:
    """Weights in a layout of one kernel."""
    visit.fix_all(f"{visit.node.op_type} stores its weight as one flat array of blocks")


def nbits_shape(at: Sized) -> list[Shape | None] | None:
    """N columns, as the attribute says."""
    width = at.number("N")
    return [(*at.input(0)[:-1], (width, width))] if width else None


def nbits_depth(at: Sized) -> Pairs:
    """K, as the attribute says."""
    return [(at.input(0)[-1], (at.number("K"),) * 2)]


NBITS = Shaping(nbits_shape, alike=nbits_depth)


def gather_block_quantized_shape(at: Sized) -> list[Shape | None]:
    """As Gather, with the elements that a byte holds several of taken apart."""
    data = at.input(0)
    axis, quantised = at.number("gather_axis") % len(data), at.number("quantize_axis", 1) % len(data)
    packed = at.kind(0) == ir.DataType.UINT8
    whole = [
        scaled(size, 8 // at.number("bits", 4)) if packed and i == quantised else size
        for i, size in enumerate(data)
    ]
    return [(*whole[:axis], *at.input(1), *whole[axis + 1 :])]


ROWS = (
    Record(
        ops("MatMulNBits", "com.microsoft"),
        matmul_nbits,
        "N as MatMul; K in whole blocks",
        "contraction",
        "B, scales, zero points, bias, `N`, `K`",
        macs.matmul,
        shaping=NBITS,
        layer=Layer(1, 0, 1, bias=5),
        held=(Held(0), Held(1, (2,), 3, bits="bits"), Held(5)),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("GatherBlockQuantized", "com.microsoft"),
        gather_block_quantized,
        "rows fixed; columns in whole blocks",
        "structural",
        "data, scales, zero points",
        shaping=Shaping(gather_block_quantized_shape, follows(2)),
        held=(Held(0, bits="bits"),),
        indices=(Indices(1, 0, 0),),
        traits=traits(Trait.GATHER, Trait.LOOKUP, Trait.CODES),
    ),
    Record(
        ops("MatMulBnb4 MatMulFpQ4", "com.microsoft"),
        prepacked,
        "all axes fixed",
        "frozen",
        macs=macs.matmul,
        shaping=NBITS,
        held=(Held(0), Held(1, bits="")),
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops(
            "MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight GemmFloat8 QOrderedMatMul",
            "com.microsoft",
        ),
        prepacked,
        "all axes fixed",
        "frozen",
        macs=macs.unknown,
        traits=traits(Trait.PRODUCT, Trait.CODES),
    ),
    Record(
        ops("MatMulNBitsMlp MatMulNBitsQkv", "com.microsoft"),
        prepacked,
        "all axes fixed",
        "frozen",
        macs=macs.unknown,
        traits=traits(Trait.CODES),
    ),
)
