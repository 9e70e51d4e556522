"""Normalisers (docs/theory.md#normalisers): per channel parallel; over a width they need compensations."""

from __future__ import annotations

from dataclasses import replace

from graphprune.ir.operators import Pairs, Sized
from graphprune.labels.algebra import ONE, Label, is_fixed, is_static
from graphprune.labels.edits import AttributeCount, LayerNormExpansion, RmsCompensation
from graphprune.labels.visit import Visit
from graphprune.ops.operands import fix_positions
from graphprune.ops.record import Record, ops, traits
from graphprune.ops.shaping import SAME
from graphprune.ops.traits import Trait

UNBLOCK = (
    "layernorm=expand keeps the function; layernorm=slice with allow-inexact=true keeps the fused operator"
)
SLICE_ONLY = "layernorm=slice with allow-inexact=true, for the channels of a GroupNorm"


def admit(visit: Visit, label: Label, what: str) -> bool:
    """Whether the options allow a width under a LayerNorm to shrink; pins it if not."""
    if visit.options.layernorm == "refuse" or (
        visit.options.layernorm == "slice" and not visit.options.allow_inexact
    ):
        visit.fix(label, f"{what} normalises over it", UNBLOCK)
        return False
    return True


def batch_norm(visit: Visit) -> None:
    """EQ(x.1, gamma, beta, mean, variance)."""
    axes = visit.axes(0)
    for position, role in ((1, "scale"), (2, "bias"), (3, "stat"), (4, "stat")):
        if visit.has(position) and len(axes) > 1:
            visit.roles(position, role)
            visit.equal(axes[1], visit.axis(position, 0))
    if visit.int_attr("training_mode", 0):
        for label in (*axes[:1], *axes[2:]):
            visit.fix(label, "BatchNormalization in training mode takes its statistics over it")
    visit.out(axes)
    for position in range(1, len(visit.node.outputs)):
        visit.out([axes[1]] if len(visit.out_shape(position) or ()) == 1 else visit.top(position), position)


def instance_norm(visit: Visit) -> None:
    """EQ(x.1, scale, B); a normalised axis is fixed unless it may be sliced.

    A GroupNorm in primitive operators is [N, groups, channels x positions] here: the channels of a group are
    what a LayerNorm's width is, and go under the same options.
    """
    axes, shape = visit.axes(0), visit.shape(0)
    for position, role in ((1, "scale"), (2, "bias")):
        visit.roles(position, role)
        visit.equal(axes[1], visit.axis(position, 0))
    sliced = visit.options.layernorm == "slice" and visit.options.allow_inexact
    flat = shape is not None and len(shape) == 3 and is_static(shape[2])
    for axis, label in enumerate(axes[2:], 2):
        if is_fixed(label):
            continue
        if sliced and flat:
            visit.contract(0, axis)
            visit.inexact(label)
        else:
            visit.fix(label, "InstanceNormalization normalises over it", SLICE_ONLY)
    visit.out(axes)


def group_norm(visit: Visit) -> None:
    """x.1 = (groups, channels per group): whole groups go; within a group the statistics would change."""
    shape = visit.shape(0)
    if shape is None or not is_static(shape[1]):
        visit.fix_all("its shape is not known here")
        return
    fix_positions(visit)
    groups, channels = visit.int_attr("num_groups", 1), shape[1][0]
    refined = visit.refine(visit.axis(0, 1), (groups, channels // groups))
    if refined is not None:
        whole = visit.between(refined, 1, groups)
        visit.fix(visit.between(refined, groups, channels), "GroupNormalization normalises over its groups")
        visit.edit(AttributeCount(visit.node, "num_groups", whole))
        for position, role in ((1, "scale"), (2, "bias")):
            visit.roles(position, role)
            per_group = (visit.shape(position) or ())[0][0] == groups and groups != channels
            visit.equal(visit.axis(position, 0), whole if per_group else visit.axis(0, 1))
    visit.out(visit.axes(0))


def layer_norm(visit: Visit) -> None:
    """Out = in; the normalised axes are tied to scale and bias; statistics outputs lose those axes."""
    axes = visit.axes(0)
    if visit.shape(0) is None:
        visit.fix_all("its shape is not known here")
        return
    start = visit.int_attr("axis", -1) % len(axes)
    normalise_width(visit, start, scale=1, bias=2)
    visit.out(axes)
    for position in range(1, len(visit.node.outputs)):
        visit.out([*axes[:start], *([()] * (len(axes) - start))], position)


def normalise_width(visit: Visit, start: int, scale: int, bias: int | None) -> None:
    """Ties the axes from `start` on to scale and bias; decides whether a LayerNorm over them may shrink."""
    axes = visit.axes(0)
    _tie_affine(visit, start, scale, bias)
    labelled = [axis for axis in range(start, len(axes)) if not is_fixed(axes[axis])]
    if not labelled or not all(admit(visit, axes[axis], visit.node.op_type) for axis in labelled):
        return
    if len(labelled) > 1 or start != len(axes) - 1:
        for axis in labelled:
            visit.fix(axes[axis], f"{visit.node.op_type} normalises over several axes")
        return
    visit.contract(0, labelled[0])
    if visit.options.layernorm == "expand":
        visit.edit(LayerNormExpansion(visit.node, axes[labelled[0]]))
    else:
        visit.inexact(axes[labelled[0]])


def _tie_affine(visit: Visit, start: int, scale: int, bias: int | None) -> None:
    rank = len(visit.axes(0))
    for position, role in ((scale, "scale"), (bias, "bias")):
        if position is None or not visit.has(position):
            continue
        visit.roles(position, role)
        affine = visit.axes(position)
        for axis in range(max(start - rank, -len(affine)), 0):
            if (visit.shape(position) or ())[axis] != (1, 1):
                visit.equal(visit.axis(0, axis), affine[axis])


def rms_norm(visit: Visit) -> None:
    """Out = in; gamma and epsilon are compensated, so the function is kept exactly."""
    axes = visit.axes(0)
    if visit.shape(0) is None:
        visit.fix_all("its shape is not known here")
        return
    start = visit.int_attr("axis", -1) % len(axes)
    rms_width(visit, start, scale=1)
    visit.out(axes)
    for position in range(1, len(visit.node.outputs)):
        visit.out([*axes[:start], *([()] * (len(axes) - start))], position)


def rms_width(visit: Visit, start: int, scale: int) -> None:
    """Ties the last axis to gamma and states the compensation of an RMS norm over it."""
    axes = visit.axes(0)
    _tie_affine(visit, start, scale, None)
    labelled = [axis for axis in range(start, len(axes)) if not is_fixed(axes[axis])]
    if not labelled:
        return
    if start != len(axes) - 1 or not visit.has(scale) or not visit.is_constant(scale):
        for axis in labelled:
            visit.fix(axes[axis], f"the scale of {visit.node.op_type} cannot be compensated")
        return
    visit.contract(0, labelled[0])
    visit.edit(RmsCompensation(visit.node, axes[-1], scale, "epsilon", 1e-5))


def scales_of(at: Sized) -> Pairs:
    """One scale per channel."""
    return [(at.input(0)[1], at.input(1)[0])]


def width_of(at: Sized) -> Pairs:
    """The last axis, whose scale may be broadcast."""
    x, scale = at.input(0), at.input(1)
    return [(x[-1], scale[-1])] if scale[-1] != ONE else []


ROWS = (
    Record(
        ops("BatchNormalization"),
        batch_norm,
        "x.1 = scale = bias = mean = variance",
        "parallel",
        "four vectors",
        shaping=replace(SAME, alike=scales_of),
        traits=traits(Trait.BATCH_NORM, Trait.CHANNEL_NORM),
    ),
    Record(
        ops("InstanceNormalization"),
        instance_norm,
        "x.1 = scale = bias; normalised axes are fixed, or sliced as a LayerNorm's",
        "parallel",
        "two vectors",
        shaping=replace(SAME, alike=scales_of),
        traits=traits(Trait.CHANNEL_NORM),
    ),
    Record(
        ops("GroupNormalization"),
        group_norm,
        "x.1 = groups x inner; inner is fixed",
        "parallel",
        "scale, bias, `num_groups`",
        shaping=SAME,
        traits=traits(Trait.OTHER_NORM),
    ),
    Record(
        ops("LayerNormalization") + ops("LayerNormalization", "com.microsoft"),
        layer_norm,
        "out = in; normalised axes = scale = bias",
        "normaliser",
        "`layernorm=expand`: primitives that keep n",
        shaping=replace(SAME, alike=width_of),
        traits=traits(Trait.WIDTH_NORM),
    ),
    Record(
        ops("RMSNormalization SimplifiedLayerNormalization")
        + ops("SimplifiedLayerNormalization", "com.microsoft"),
        rms_norm,
        "out = in; last axis = scale",
        "count",
        "scale x sqrt(n/n'), epsilon x n/n'",
        shaping=replace(SAME, alike=width_of),
        traits=traits(Trait.WIDTH_NORM),
    ),
)
