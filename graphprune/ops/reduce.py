"""Reductions, pooling and resampling (docs/theory.md#reductions)."""

from __future__ import annotations

from graphprune.ir.evaluate import axes_of
from graphprune.ir.operators import Shaping
from graphprune.labels.algebra import Label, is_fixed
from graphprune.labels.edits import MeanCount, ShapeInput, VarianceCount
from graphprune.labels.structures import VarianceRegion
from graphprune.labels.visit import Visit
from graphprune.ops.norm import admit
from graphprune.ops.operands import fix_positions
from graphprune.ops.record import Record, ops, traits
from graphprune.ops.shaping import global_pool
from graphprune.ops.traits import Trait

SUMS = ops("ReduceSum ReduceSumSquare ReduceL1 ReduceL2")


def reduced_axes(visit: Visit) -> list[int] | None:
    """The axes a Reduce operator folds; None when they are not known."""
    rank = visit.rank(0)
    data = visit.data(1)
    if visit.has(1) and data is None:
        return None
    axes = axes_of([None, None if data is None else data.a], visit.node.attributes)
    if axes is None or not len(axes):
        return [] if visit.int_attr("noop_with_empty_axes", 0) else list(range(rank))
    return [axis % rank for axis in axes]


def reduce(visit: Visit) -> None:
    """Reduced axes vanish; what a removed slot must read as depends on the operator."""
    if visit.shape(0) is None:
        visit.fix_all("its shape is not known here")
        return
    axes = reduced_axes(visit)
    if axes is None:
        visit.fix_all("its axes are not constant")
        return
    labels = visit.axes(0)
    labelled = [axis for axis in axes if not is_fixed(labels[axis])]
    REDUCTIONS.get(visit.node.op_type, _frozen)(visit, labelled)
    keep = visit.int_attr("keepdims", 1)
    visit.out([() if i in axes else label for i, label in enumerate(labels) if keep or i not in axes])


def _sum(visit: Visit, axes: list[int]) -> None:
    for axis in axes:
        visit.contract(0, axis)
    _guard_means(visit, axes)


def _guard_means(visit: Visit, axes: list[int]) -> None:
    if axes and visit.state.facts.means.get(visit.value(0)):
        for axis in axes:
            visit.fix(visit.axis(0, axis), "it is reduced again after a mean over it was added")


def _mean(visit: Visit, axes: list[int]) -> None:
    region = visit.state.facts.regions.get(visit.node)
    if isinstance(region, VarianceRegion) and axes:
        _region_mean(visit, region, axes)
        return
    for axis in axes:
        visit.contract(0, axis)
    _guard_means(visit, axes)
    if axes:
        visit.edit(MeanCount(visit.node, tuple(visit.axis(0, axis) for axis in axes)))
        visit.state.facts.means[visit.node.outputs[0]] = False


def _region_mean(visit: Visit, region: VarianceRegion, axes: list[int]) -> None:
    """The mean or the variance of a LayerNorm written in primitive operators."""
    label = visit.axis(0, axes[0])
    layernorm = visit.options.layernorm
    # Without a fused kernel there is none to lose, so the exact form needs no asking.
    exact = layernorm == "expand" or (layernorm == "refuse" and not region.fused)
    if len(axes) > 1 or not (exact or admit(visit, label, "a LayerNorm written in primitive operators")):
        for axis in axes:
            visit.fix(visit.axis(0, axis), "a LayerNorm normalises over it")
        return
    if not exact:
        visit.contract(0, axes[0])
        visit.inexact(label)
    elif visit.node is region.mean:
        visit.contract(0, axes[0])
        visit.edit(MeanCount(visit.node, (label,)))
        for centred in region.centred:
            visit.contract_at(centred, 0, axes[0])
    else:
        visit.edit(VarianceCount(visit.node, label, region.mean.outputs[0]))


def _extreme(visit: Visit, axes: list[int]) -> None:
    for axis in axes:
        visit.contract(0, axis, "lowest" if visit.node.op_type == "ReduceMax" else "highest")
    _guard_means(visit, axes)


def _frozen(visit: Visit, axes: list[int]) -> None:
    for axis in axes:
        visit.fix(visit.axis(0, axis), f"{visit.node.op_type} over it has no neutral element to remove")


REDUCTIONS = {
    **dict.fromkeys(SUMS, _sum),
    "ReduceMean": _mean,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
}


def pool(visit: Visit) -> None:
    """Batch and channels pass; spatial axes are fixed."""
    fix_positions(visit)
    for position in range(len(visit.node.outputs)):
        visit.out([*visit.axes(0)[:2], *visit.top(position)[2:]], position)
    if len(visit.node.outputs) > 1:
        visit.fix(visit.axis(0, 1), "the indices of MaxPool count through all channels")


def global_mean(visit: Visit) -> None:
    """Of [batch, tokens, width] it is the ReduceMean over a width; of images it averages pixels."""
    labels = visit.axes(0)
    if len(labels) != 3:
        pool(visit)
        return
    _mean(visit, [] if is_fixed(labels[2]) else [2])
    visit.out([*labels[:2], ()])


def resample(visit: Visit) -> None:
    """Axes whose size stays pass; resampled ones are fixed."""
    before, after = visit.shape(0), visit.out_shape()
    if before is None or after is None or len(before) != len(after):
        visit.fix_all("its shape is not known here")
        return
    out: list[Label] = []
    for axis, label in enumerate(visit.axes(0)):
        if before[axis] == after[axis] and axis < 2:
            out.append(label)
            continue
        visit.fix(label, "it is resampled")
        out.append(visit.fixed(after[axis], "it is resampled"))
    visit.out(out)
    if visit.has(3):
        axes = visit.ints_attr("axes") or tuple(range(len(out)))
        visit.edit(ShapeInput(visit.node, 3, tuple(out[axis] for axis in axes)))


def sample(visit: Visit) -> None:
    """GridSample, RoiAlign: channels pass; the rest is fixed."""
    for axis, label in enumerate(visit.axes(0)):
        if axis > 1:
            visit.fix(label, "it is sampled at run-time positions")
    out = visit.top()
    if len(out) > 1:
        out[1] = visit.axis(0, 1)
    visit.out(out)


ROWS = (
    Record(SUMS, reduce, "reduced axes vanish", "reduction", traits=traits(Trait.ZERO)),
    Record(ops("ReduceMean"), reduce, "reduced axes vanish", "count", "multiplies by kept/original count"),
    Record(
        ops("ReduceMax ReduceMin"),
        reduce,
        "reduced axes vanish; removed slots lose every comparison",
        "reduction",
        traits=traits(Trait.PICK, Trait.ZERO),
    ),
    Record(ops("ReduceProd ReduceLogSum ReduceLogSumExp"), reduce, "reduced axes are fixed", "frozen"),
    Record(
        ops("AveragePool MaxPool LpPool"),
        pool,
        "batch and channels pass; spatial axes are fixed",
        "parallel",
        shaping=Shaping(kind=None, axes="windows"),
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("GlobalMaxPool GlobalLpPool"),
        pool,
        "batch and channels pass; spatial axes are fixed",
        "parallel",
        shaping=Shaping(global_pool),
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("GlobalAveragePool"),
        global_mean,
        "batch and channels pass; spatial axes are fixed, one alone vanishes",
        "count",
        "multiplies by kept/original count",
        shaping=Shaping(global_pool),
        traits=traits(Trait.WINDOW),
    ),
    Record(
        ops("Resize Upsample"),
        resample,
        "batch and channels pass; resampled axes are fixed",
        "parallel",
        "channel entry of `sizes`",
        traits=traits(Trait.RESIZE),
    ),
    Record(
        ops("GridSample RoiAlign MaxRoiPool"),
        sample,
        "channels pass",
        "parallel",
        traits=traits(Trait.WINDOW),
    ),
)
