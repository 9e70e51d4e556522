"""Operators that join, part and pick slots (docs/theory.md#joining-parting-picking)."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Array, Ids
from graphprune.ir.evaluate import slice_bounds
from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.algebra import Label, is_fixed, is_static, size_of
from graphprune.labels.edits import ClampCount, IndexMap, ShapeInput, SliceBounds, SplitSizes
from graphprune.labels.visit import Visit, factor_of
from graphprune.ops.branching import piece, single_slot, why_not
from graphprune.ops.record import Indices, Record, ops, traits
from graphprune.ops.shaping import SAME, joined
from graphprune.ops.traits import Trait


def picked(visit: Visit, label: Label, indices: Ids, tag: object) -> Label:
    """The label of the slots `indices` of an axis, in order; whole blocks of a product stay a product."""
    count = len(indices)
    if is_fixed(label):
        return (
            visit.fixed((count, count))
            if label and not is_static(size_of(label))
            else _fixed_like(visit, label, count)
        )
    label = visit.normal(label)
    if len(label) > 1:
        inner = size_of(label[1:])[0]
        blocks = indices.reshape(-1, inner) if count % inner == 0 else np.zeros((0, inner), np.int64)
        whole = (
            len(blocks)
            and (blocks == blocks[:, :1] + np.arange(inner)).all()
            and (blocks[:, 0] % inner == 0).all()
        )
        if whole and label[0].atoms is not None:
            return (*_leading(visit, label[0].atoms[blocks[:, 0] // inner]), *label[1:])
    atoms = visit.flat(label, tag)
    return _leading(visit, atoms[indices]) if atoms is not None else visit.fixed((count, count))


def _leading(visit: Visit, atoms: Ids) -> Label:
    if len(atoms) == 1:
        visit.fix_atoms(atoms, why_not(visit) or "it is the only slot of its axis")
    return factor_of(atoms)


def _fixed_like(visit: Visit, label: Label, count: int) -> Label:
    if count == 1:
        return ()
    return visit.fixed_why((count, count), label[0].why if label else 0)


def concat(visit: Visit) -> None:
    """out.a = the inputs' slots one after the other; other axes are tied."""
    if any(visit.shape(p) is None for p in range(visit.count)):
        visit.fix_all("an operand's shape is not known")
        return
    axis = visit.int_attr("axis", 0) % visit.rank(0)
    out = list(visit.axes(0))
    for position in range(visit.count):
        visit.roles(position, "source")
        for other in range(len(out)):
            if other != axis and position:
                visit.equal(out[other], visit.axis(position, other))
    out[axis] = _joined(visit, axis)
    visit.out(out)


def _joined(visit: Visit, axis: int) -> Label:
    labels = [visit.axis(p, axis) for p in range(visit.count)]
    sizes = [(visit.shape(p) or ())[axis] for p in range(visit.count)]
    if visit.count == 1:
        return labels[0]
    total = (visit.out_shape() or ())[axis]
    if all(is_fixed(label) for label in labels) and not any(
        piece(visit, p) is not None for p in range(visit.count)
    ):
        why = max((f.why for label in labels for f in label), default=0)
        return visit.fixed_why(total, why)
    if not all(is_static(size) for size in sizes):
        for label in labels:
            visit.fix(label, "Concat joins it with an axis of unknown size")
        return visit.fixed(total)
    pieces = []
    for position, (label, size) in enumerate(zip(labels, sizes, strict=True)):
        own = piece(visit, position)
        pieces.append(visit.flat_or_pinned(label, size[0], position) if own is None else own)
    return factor_of(np.concatenate(pieces))


def split(visit: Visit) -> None:
    """Outputs are contiguous stretches of the axis."""
    shape = visit.shape(0)
    if shape is None:
        visit.fix_all("its shape is not known here")
        return
    axis = visit.int_attr("axis", 0) % len(shape)
    sizes = [(visit.out_shape(i) or ())[axis] for i in range(len(visit.node.outputs)) if visit.out_shape(i)]
    if len(sizes) != len(visit.node.outputs) or not all(is_static(size) for size in sizes):
        visit.fix(visit.axis(0, axis), "the sizes of Split are not known")
        sizes = [(visit.out_shape(i) or ((0, 0),) * len(shape))[axis] for i in range(len(visit.node.outputs))]
        parts = [visit.fixed(size) for size in sizes]
    else:
        slots = [single_slot(visit, visit.axis(0, axis), output) for output in range(len(sizes))]
        parts = [()] * len(sizes)
        if any(slot is None for slot in slots):
            parts = _stretches(visit, visit.axis(0, axis), [size[0] for size in sizes])
        visit.edit(
            SplitSizes(
                visit.node, tuple(s if s is not None else p for s, p in zip(slots, parts, strict=True))
            )
        )
    visit.roles(0, "source")
    for position, part in enumerate(parts):
        labels = list(visit.axes(0))
        labels[axis] = part
        visit.out(labels, position)
        index = visit.index_of(0)
        if index is not None:
            visit.set_index(index, position)


def _stretches(visit: Visit, label: Label, sizes: list[int]) -> list[Label]:
    ends = np.cumsum(sizes)
    return [
        picked(visit, label, np.arange(end - size, end), "split")
        for end, size in zip(ends, sizes, strict=True)
    ]


def slice_(visit: Visit) -> None:
    """A strided stretch of each sliced axis."""
    shape = visit.shape(0)
    bounds = _bounds(visit, len(shape)) if shape is not None else None
    if shape is None:
        visit.fix_all("its shape is not known here")
        return
    out = list(visit.axes(0))
    after = visit.out_shape() or ()
    if bounds is None:
        for axis in _sliced_axes(visit, len(shape)):
            visit.fix(out[axis], "the bounds of Slice are not constant")
            out[axis] = visit.fixed(after[axis], "the bounds of Slice are not constant")
        bounds = []
    for axis, start, end, step in bounds:
        if not is_static(shape[axis]):
            out[axis] = visit.fixed(after[axis])
            continue
        indices = np.arange(shape[axis][0])[
            slice(start, None if step < 0 and end < -shape[axis][0] else end, step)
        ]
        if len(indices) == shape[axis][0] and step == 1:
            continue
        if not is_fixed(out[axis]):
            visit.edit(SliceBounds(visit.node, axis, out[axis], start, end, step))
        slot = single_slot(visit, out[axis])
        out[axis] = picked(visit, out[axis], indices, ("slice", axis)) if slot is None else ()
    visit.roles(0, "source")
    visit.out(out)
    index = visit.index_of(0)
    if index is not None:
        visit.set_index(index)


def _bounds(visit: Visit, rank: int) -> list[tuple[int, int, int, int]] | None:
    inputs: list[Array | None] = [np.empty(0)]
    for position in range(1, visit.count):
        data = visit.data(position)
        if data is None and visit.has(position):
            return None
        if data is not None and data.dynamic.any() and (data.a != data.b).any():
            inputs.append(_huge(data.a, data.a != data.b))
        else:
            inputs.append(None if data is None else data.a)
    return slice_bounds(inputs, visit.node.attributes, rank)


def _huge(array: Array, dynamic: Array) -> Array:
    return np.where(dynamic, np.int64(1) << 40, array.astype(np.int64))


def _sliced_axes(visit: Visit, rank: int) -> list[int]:
    given = visit.data(3)
    return list(range(rank)) if given is None else [int(a) % rank for a in np.ravel(given.a)]


def gather(visit: Visit) -> None:
    """Constant indices pick slots; run-time indices fix the axis unless they are positions on it."""
    if visit.shape(0) is None or visit.shape(1) is None:
        visit.fix_all("an operand's shape is not known")
        return
    axes = visit.axes(0)
    axis = visit.int_attr("axis", 0) % len(axes)
    visit.roles(0, "source")
    visit.role(0, axis, "table")
    indices = visit.constant(1)
    index = visit.index_of(1)
    if indices is not None and not is_fixed(axes[axis]):
        middle = _constant_pick(visit, axes[axis], np.asarray(indices))
    elif index is not None:
        visit.equal(axes[axis], index)
        middle = list(visit.axes(1))
    else:
        visit.fix(axes[axis], "it is indexed at run time")
        middle = (
            list(visit.axes(1)) if indices is None else [visit.fixed(size) for size in visit.shape(1) or ()]
        )
    visit.out([*axes[:axis], *middle, *axes[axis + 1 :]])
    table_index = visit.index_of(0)
    if table_index is not None:
        visit.set_index(table_index)


def _constant_pick(visit: Visit, label: Label, indices: Array) -> list[Label]:
    size = size_of(label)[0]
    flat = np.ravel(indices).astype(np.int64) % size
    if indices.ndim > 1:
        visit.fix(label, "a table of constant indices reads it")
        return [visit.fixed((n, n)) for n in indices.shape]
    visit.edit(IndexMap(visit.node, 1, label))
    if single_slot(visit, label) is not None:
        return [()] * indices.ndim
    if indices.ndim == 0:
        atoms = visit.flat(label, "gather")
        if atoms is not None:
            visit.fix_atoms(atoms[flat], why_not(visit) or "a constant index picks it")
    return [] if indices.ndim == 0 else [picked(visit, label, flat, "gather")]


def gather_elements(visit: Visit) -> None:
    """The indexed axis is fixed; other axes of equal size are tied."""
    data, index = visit.shape(0), visit.shape(1)
    if data is None or index is None:
        visit.fix_all("an operand's shape is not known")
        return
    axis = visit.int_attr("axis", 0) % len(data)
    out = list(visit.axes(1))
    positions = visit.index_of(1)
    if positions is not None:
        visit.equal(visit.axis(0, axis), positions)
    else:
        visit.fix(visit.axis(0, axis), "it is indexed at run time")
    for other in range(len(data)):
        if other == axis:
            continue
        if data[other] == index[other]:
            visit.equal(visit.axis(0, other), out[other])
        else:
            visit.fix(visit.axis(0, other), "indices cover only a part of it")
            visit.fix(out[other], "indices cover only a part of an axis")
    visit.out(out)


def gather_nd(visit: Visit) -> None:
    """The axes that index tuples address are fixed; the rest pass."""
    data, index = visit.shape(0), visit.shape(1)
    if data is None or index is None or not is_static(index[-1]):
        visit.fix_all("an operand's shape is not known")
        return
    batch, depth = visit.int_attr("batch_dims", 0), index[-1][0]
    for axis in range(batch):
        visit.equal(visit.axis(0, axis), visit.axis(1, axis))
    for label in (*visit.axes(0)[batch : batch + depth], visit.axis(1, -1)):
        visit.fix(label, "it is indexed at run time")
    visit.out([*visit.axes(1)[:-1], *visit.axes(0)[batch + depth :]])


def scatter_nd(visit: Visit) -> None:
    """The addressed axes are fixed; the rest of data and updates are tied."""
    data, index = visit.shape(0), visit.shape(1)
    if data is None or index is None or visit.shape(2) is None or not is_static(index[-1]):
        visit.fix_all("an operand's shape is not known")
        return
    depth = index[-1][0]
    out = list(visit.axes(0))
    for label in (*out[:depth], visit.axis(1, -1)):
        visit.fix(label, "it is written at run-time positions")
    for axis, label in enumerate(visit.axes(1)[:-1]):
        for written in (label, visit.axis(2, axis)):
            visit.fix(written, "every update of ScatterND is written")
    for axis in range(depth, len(data)):
        visit.equal(out[axis], visit.axis(2, axis - len(data)))
    visit.out(out)


def scatter_elements(visit: Visit) -> None:
    """The written axis is fixed unless the indices are positions on it; other axes of equal size are tied."""
    data, index = visit.shape(0), visit.shape(1)
    if data is None or index is None:
        visit.fix_all("an operand's shape is not known")
        return
    axis = visit.int_attr("axis", 0) % len(data)
    out = list(visit.axes(0))
    positions = visit.index_of(1)
    if positions is not None:
        visit.equal(out[axis], positions)
    else:
        visit.fix(out[axis], "it is written at run-time positions")
    for label in (visit.axis(1, axis), visit.axis(2, axis)):
        visit.fix(label, f"every update of {visit.node.op_type} is written")
    for other in range(len(data)):
        visit.equal(visit.axis(1, other), visit.axis(2, other))
        if other != axis and data[other] == index[other]:
            visit.equal(out[other], visit.axis(1, other))
        elif other != axis:
            visit.fix(out[other], "indices cover only a part of it")
            visit.fix(visit.axis(1, other), "indices cover only a part of an axis")
    visit.out(out)


def arg_extreme(visit: Visit) -> None:
    """The result is a position on the reduced axis: removed slots lose every comparison."""
    axes = visit.axes(0)
    axis = visit.int_attr("axis", 0) % len(axes)
    visit.contract(0, axis, "lowest" if visit.node.op_type == "ArgMax" else "highest")
    rest = [() if i == axis else label for i, label in enumerate(axes)]
    visit.out(rest if visit.int_attr("keepdims", 1) else rest[:axis] + rest[axis + 1 :])
    visit.set_index(axes[axis])


def top_k(visit: Visit) -> None:
    """Values and indices have a new axis; indices are positions on the searched one."""
    axes = visit.axes(0)
    axis = visit.int_attr("axis", -1) % len(axes)
    visit.contract(0, axis, "lowest" if visit.int_attr("largest", 1) else "highest")
    visit.edit(ClampCount(visit.node, 1, axes[axis]))
    count = (visit.out_shape() or visit.shape(0) or ())[axis]
    for position in (0, 1):
        out = list(axes)
        out[axis] = visit.fixed(count, "TopK makes it")
        visit.out(out, position)
    visit.at_least(axes[axis], count[0])
    visit.set_index(axes[axis], 1)


def one_hot(visit: Visit) -> None:
    """The new axis is the one that the indices point into, or fixed."""
    rank = len(visit.out_shape() or ())
    axis = visit.int_attr("axis", -1) % rank if rank else 0
    index = visit.index_of(0)
    size = (visit.out_shape() or ())[axis]
    label = index if index is not None and size_of(index) == size else visit.fixed(size)
    if index is not None and label is not index:
        visit.fix(index, "OneHot has another depth")
    if label is index:
        visit.edit(ShapeInput(visit.node, 1, (label,)))
    axes = list(visit.axes(0))
    visit.out([*axes[:axis], label, *axes[axis:]])


def concat_shape(at: Sized) -> list[Shape | None] | None:
    """Sizes along `axis` add up; others agree."""
    return joined(at, at.inputs())


def gather_shape(at: Sized) -> list[Shape | None] | None:
    """The axes of the index, in place of the one that is indexed."""
    data, index, axis = at.input(0), at.input(1), at.number("axis")
    if not -len(data) <= axis < len(data):
        return None
    axis %= len(data)
    return [(*data[:axis], *index, *data[axis + 1 :])]


ROWS = (
    Record(
        ops("Concat"),
        concat,
        "out.a = slots of the inputs in turn; other axes tied",
        "structural",
        shaping=Shaping(concat_shape, axes="joined"),
        traits=traits(Trait.CONCAT, Trait.JOIN),
    ),
    Record(
        ops("Split"),
        split,
        "outputs are contiguous stretches; an expert goes with its slot",
        "structural",
        "split sizes",
        traits=traits(Trait.PART, Trait.PICK),
    ),
    Record(
        ops("Slice"),
        slice_,
        "a strided stretch",
        "structural",
        "starts and ends; a Gather where a stride breaks",
        shaping=Shaping(),
        traits=traits(Trait.PART, Trait.PICK),
    ),
    Record(
        ops("Gather"),
        gather,
        "constant indices pick slots (an expert goes with its own); others fix the axis unless index-typed",
        "structural",
        "constant indices",
        shaping=Shaping(gather_shape),
        indices=(Indices(1, 0),),
        traits=traits(Trait.GATHER, Trait.LOOKUP, Trait.PICK),
    ),
    Record(
        ops("GatherElements"),
        gather_elements,
        "indexed axis fixed unless index-typed; others tied",
        "structural",
        indices=(Indices(1, 0),),
        traits=traits(Trait.GATHER, Trait.PICK),
    ),
    Record(
        ops("GatherND"),
        gather_nd,
        "addressed axes fixed; others pass",
        "structural",
        traits=traits(Trait.GATHER, Trait.PICK),
    ),
    Record(ops("ScatterND"), scatter_nd, "addressed axes fixed; others tied", "structural", shaping=SAME),
    Record(
        ops("ScatterElements Scatter"),
        scatter_elements,
        "written axis fixed unless index-typed; others tied",
        "structural",
        shaping=SAME,
    ),
    Record(ops("ArgMax"), arg_extreme, "the result is index-typed", "reduction", traits=traits(Trait.SELECT)),
    Record(ops("ArgMin"), arg_extreme, "the result is index-typed", "reduction"),
    Record(
        ops("TopK"),
        top_k,
        "indices are index-typed; k slots at least are kept",
        "reduction",
        "k",
        traits=traits(Trait.SELECT, Trait.PICK),
    ),
    Record(
        ops("OneHot"),
        one_hot,
        "the new axis is the one the indices point into",
        "structural",
        "depth",
        indices=(Indices(0, 1),),
        traits=traits(Trait.ONE_HOT),
    ),
)
