"""Operators that work slot by slot (docs/theory.md#element-by-element)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.operators import Attributes, Shape, Shaping, Sized, follows
from graphprune.labels.algebra import ONE, Label, is_fixed, size_of
from graphprune.labels.edits import DenseShape, IndexMap
from graphprune.labels.visit import Visit
from graphprune.ops.branching import single_slot
from graphprune.ops.record import Record, ops, traits
from graphprune.ops.shaping import BROADCAST, SAME, always
from graphprune.ops.traits import Trait

UNARY = {
    ops("Relu LeakyRelu Elu Selu Celu ThresholdedRelu Shrink Softsign Mish Swish HardSwish Gelu Erf")
    + ops("QuickGelu Gelu", "com.microsoft"): traits(Trait.ACTIVATION, Trait.ZERO),
    ops("Softplus"): traits(Trait.ACTIVATION),
    ops("Sigmoid HardSigmoid"): traits(Trait.ACTIVATION, Trait.SIGMOID),
    ops("Tanh"): traits(Trait.ACTIVATION, Trait.TANH, Trait.ZERO),
    ops("Clip"): traits(Trait.ACTIVATION, Trait.CLIP),
    ops("Identity"): traits(Trait.COPY, Trait.LAYOUT),
    ops("Sqrt Neg Abs Sign Floor Ceil Round Sin Tan Asin Atan Sinh Asinh Atanh"): traits(Trait.ZERO),
    ops("Exp Log Reciprocal Cos Acos Cosh Acosh BitwiseNot"): traits(),
}
BINARY = {
    ops("Add Sum"): traits(Trait.SUM, Trait.ADDS, Trait.AFFINE),
    ops("Sub"): traits(Trait.ADDS, Trait.AFFINE),
    ops("Mul"): traits(Trait.MULTIPLY, Trait.SCALE, Trait.AFFINE),
    ops("Div"): traits(Trait.SCALE, Trait.AFFINE),
    ops("Min Max"): traits(Trait.JOIN),
    ops("Pow Mean Mod BitShift BitwiseAnd BitwiseOr BitwiseXor"): traits(),
}
TIED = "right-aligned axes of equal size are tied; size 1 broadcasts"
SOFTMAX = {
    "Softmax": traits(Trait.PROBABILITIES),
    "LogSoftmax": traits(Trait.LOG_PROBABILITIES),
    "Hardmax": traits(),
}
CONSTANT_ROLE = {"Add": "bias", "Sub": "bias", "Sum": "bias", "Mul": "scale", "Div": "scale"}


def unary(visit: Visit) -> None:
    """Out = in on all axes."""
    axes = visit.axes(0)
    visit.roles(0, "table")
    for position in range(len(visit.node.outputs)):
        visit.out(axes, position)
    index = visit.index_of(0)
    if index is not None and visit.node.op_type in ("Identity", "Cast"):
        visit.set_index(index)


def broadcast(visit: Visit, positions: list[int]) -> list[Label]:
    """Ties the right-aligned axes that are not broadcast; returns the labels of the result."""
    ranks = {p: visit.rank(p) for p in positions}
    rank = max(ranks.values())
    out: list[Label] = []
    for axis in range(-rank, 0):
        operands = [p for p in positions if -axis <= ranks[p]]
        wide = [p for p in operands if (visit.shape(p) or ())[axis] != ONE]
        label: Label = visit.axis(wide[0], axis) if wide else ()
        for position in wide[1:]:
            visit.equal(label, visit.axis(position, axis))
        out.append(label)
    return out


def elementwise(visit: Visit) -> None:
    """Right-aligned axes of equal size are tied; a size-1 axis stays as it is."""
    positions = [p for p in range(visit.count) if visit.has(p)]
    if any(visit.shape(p) is None for p in positions):
        visit.fix_all("an operand's shape is not known")
        return
    if visit.node.op_type == "Equal" and equal_position(visit):
        return
    for position in positions:
        visit.roles(position, CONSTANT_ROLE.get(visit.node.op_type, "table"))
    visit.out(broadcast(visit, positions))


def equal_position(visit: Visit) -> bool:
    """Positions compared with the numbers of experts: one number, or all of them along the last axis."""
    for position in (0, 1):
        index, numbers = visit.index_of(position), visit.constant(1 - position)
        if index is None or is_fixed(index) or numbers is None:
            continue
        axes, size = list(visit.axes(position)), size_of(index)[0]
        if numbers.size == 1 and single_slot(visit, index) is not None:
            visit.edit(IndexMap(visit.node, 1 - position, index))
            visit.out([*[()] * (numbers.ndim - len(axes)), *axes])
            return True
        if (
            np.array_equal(numbers.ravel(), np.arange(size))
            and numbers.shape[-1] == size
            and size_of(axes[-1]) == ONE
        ):
            visit.edit(IndexMap(visit.node, 1 - position, index))
            visit.out([*[()] * (numbers.ndim - len(axes)), *axes[:-1], index])
            return True
        visit.fix(index, "its positions are compared with numbers")
    return False


def prelu(visit: Visit) -> None:
    """The slope broadcasts to x."""
    visit.roles(1, "scale")
    visit.out(broadcast(visit, [0, 1]))


def softmax(visit: Visit) -> None:
    """Out = in; removing a slot changes all others: the axis is fixed unless it chooses experts."""
    axes = visit.axes(0)
    rank = visit.rank(0)
    axis = visit.int_attr("axis", -1 if visit.opset() >= 13 else 1) % rank
    normalised = range(axis, rank) if visit.opset() < 13 else [axis]
    for position in normalised:
        if visit.node in visit.state.routers:
            visit.contract(0, position, "-inf")
        else:
            visit.fix(axes[position], f"{visit.node.op_type} normalises over it")
    visit.out(axes)


def channel_window(visit: Visit) -> None:
    """Out = in; the channel axis is fixed, because a slot reads its neighbours."""
    axes = visit.axes(0)
    visit.fix(axes[1], f"{visit.node.op_type} mixes neighbouring channels")
    visit.out(axes)


def lp_norm(visit: Visit) -> None:
    """Out = in; a masked slot adds nothing to an L1 or L2 norm."""
    axes = visit.axes(0)
    axis = visit.int_attr("axis", -1) % visit.rank(0)
    visit.contract(0, axis)
    visit.out(axes)


def scan(visit: Visit) -> None:
    """Out = in; a removed slot adds nothing to a running sum; Trilu reads positions, so they are fixed."""
    axes = visit.axes(0)
    if visit.node.op_type == "Trilu":
        walked = [-1, -2]
    else:
        data = visit.data(1)
        walked = [] if data is None else [int(data.a.ravel()[0])]
        if data is None:
            for label in axes:
                visit.fix(label, "its axis is not constant")
    for axis in walked:
        if visit.node.op_type == "CumSum":
            visit.contract(0, axis)
        else:
            visit.fix(axes[axis], f"{visit.node.op_type} runs along it")
    visit.out(axes)


def mean_variance(visit: Visit) -> None:
    """Out = in; the normalised axes are fixed."""
    axes = visit.axes(0)
    for axis in visit.ints_attr("axes") or (0, 2, 3):
        visit.fix(axes[axis], "MeanVarianceNormalization normalises over it")
    visit.out(axes)


SHAPE_MOVES = frozenset(
    ["Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Identity", "Split", "Reshape"]
)
"""Operators that hand sizes on unchanged."""
SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3, "Tile": 1}
"""Readers that only want to know how many slots there are: they want the kept count."""


def shape_of(visit: Visit) -> None:
    """Sizes are read again at run time; where they are computed with, the original size is restored."""
    start, end = visit.int_attr("start", 0), visit.int_attr("end", visit.rank(0))
    labels = visit.axes(0)[start:end]
    if visit.node.op_type == "Size":
        for label in labels:
            visit.fix(label, "Size counts its slots")
    elif not all(is_fixed(label) for label in labels) and _computed_with(visit.node.outputs[0]):
        visit.edit(DenseShape(visit.node, labels))
    visit.out(visit.top())


def _computed_with(sizes: ir.Value) -> bool:
    """Whether anything but a shape input reads these sizes, directly or through operators that move them."""
    work, seen = [sizes], {sizes}
    while work:
        for user, position in work.pop().uses():
            if SHAPE_INPUTS.get(user.op_type) == position:
                continue
            if user.op_type not in SHAPE_MOVES or (position > 0 and user.op_type != "Concat"):
                return True
            work.extend(out for out in user.outputs if out not in seen)
            seen.update(user.outputs)
    return False


def generated(visit: Visit) -> None:
    """New axes that nothing can remove."""
    for position in range(len(visit.node.outputs)):
        visit.out(visit.top(position), position)


def dropout(visit: Visit) -> None:
    """Out = in, and a mask of its shape; in training mode that mask is drawn, as its shape says."""
    training = visit.constant(2)
    if visit.has(2) and (training is None or training.any()):
        random_like(visit)
    else:
        unary(visit)


def random_like(visit: Visit) -> None:
    """The input's shape with new values: fixed, because the random stream depends on it."""
    visit.fix_all("a random operator depends on its shape")


def cast_kind(at: Attributes, output: int) -> ir.DataType | None:
    """What its attribute says, or that of another tensor."""
    return ir.DataType(at.number("to")) if at.number("to") else at.kind(1)


def rank_of(at: Sized) -> list[Shape | None] | None:
    """One size per axis, or one number; a stretch of the axes is left to the onnx package."""
    if "start" in at.node.attributes or "end" in at.node.attributes:
        return None
    rank = len(at.input(0))
    return [((rank, rank),) if at.node.op_type == "Shape" else ()]


BOOL = always(ir.DataType.BOOL)


ROWS = (
    *(
        Record(names, unary, "out = in on all axes", "parallel", shaping=SAME, traits=what)
        for names, what in UNARY.items()
    ),
    Record(
        ops("Cast CastLike"),
        unary,
        "out = in on all axes",
        "parallel",
        shaping=replace(SAME, kind=cast_kind),
        traits=traits(Trait.CAST),
    ),
    Record(
        ops("Not IsNaN IsInf"), unary, "out = in on all axes", "parallel", shaping=replace(SAME, kind=BOOL)
    ),
    *(
        Record(
            names, elementwise, TIED, "parallel", "slices constant operands", shaping=BROADCAST, traits=what
        )
        for names, what in BINARY.items()
    ),
    Record(
        ops("And Or Xor Equal Less LessOrEqual Greater GreaterOrEqual"),
        elementwise,
        TIED,
        "parallel",
        "slices constant operands",
        shaping=replace(BROADCAST, kind=BOOL),
    ),
    Record(
        ops("Where"),
        elementwise,
        TIED,
        "parallel",
        "slices constant operands",
        shaping=replace(BROADCAST, kind=follows(1)),
        traits=traits(Trait.JOIN),
    ),
    Record(
        ops("PRelu"),
        prelu,
        "the slope broadcasts to x",
        "parallel",
        "slices the slope",
        shaping=SAME,
        traits=traits(Trait.ACTIVATION, Trait.ZERO),
    ),
    *(
        Record(
            ops(name),
            softmax,
            "out = in; the normalised axis is fixed unless it chooses experts",
            "normaliser",
            shaping=SAME,
            traits=what,
        )
        for name, what in SOFTMAX.items()
    ),
    Record(
        ops("LRN"),
        channel_window,
        "out = in; channels are fixed",
        "frozen",
        shaping=SAME,
        traits=traits(Trait.OTHER_NORM),
    ),
    Record(ops("LpNormalization"), lp_norm, "out = in", "reduction", shaping=SAME),
    Record(
        ops("MeanVarianceNormalization"),
        mean_variance,
        "out = in; normalised axes are fixed",
        "frozen",
        shaping=SAME,
        traits=traits(Trait.OTHER_NORM),
    ),
    Record(ops("Trilu CumSum"), scan, "out = in; the axes of Trilu are fixed", "reduction", shaping=SAME),
    Record(
        ops("Shape Size"),
        shape_of,
        "read again at run time",
        "structural",
        "original sizes where they are computed with",
        shaping=Shaping(rank_of, always(ir.DataType.INT64)),
        traits=traits(Trait.SIZES),
    ),
    Record(ops("Range EyeLike RandomNormal RandomUniform"), generated, "new fixed axes", "parallel"),
    Record(
        ops("Dropout"),
        dropout,
        "out = in on all axes; all fixed in training mode",
        "parallel",
        shaping=SAME,
        traits=traits(Trait.DROPOUT),
    ),
    Record(
        ops("RandomNormalLike RandomUniformLike Multinomial Bernoulli"),
        random_like,
        "all axes fixed",
        "frozen",
    ),
)
