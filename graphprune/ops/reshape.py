"""Operators that regroup the slots of axes (docs/theory.md#regrouping)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphprune.ir.arrays import Ids
from graphprune.ir.evaluate import axes_of
from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.labels.algebra import (
    ONE,
    Factor,
    Label,
    Size,
    chain,
    is_fixed,
    is_static,
    prefixes,
    size_of,
    times,
)
from graphprune.labels.edits import PadCounts, ShapeInput, ShuffleGather, SqueezeAxes
from graphprune.labels.structures import Shuffle
from graphprune.labels.visit import Visit, factor_of
from graphprune.ops.operands import fix_positions
from graphprune.ops.record import Record, ops, traits
from graphprune.ops.traits import Trait


def reshape(visit: Visit) -> None:
    """Flattens both sides into one factor chain and re-brackets it (docs/theory.md#regrouping)."""
    before, after = visit.shape(0), visit.out_shape()
    if before is None or after is None:
        visit.fix_all("its shape is not known here")
        return
    shuffle = visit.state.shuffles.get(visit.node)
    if shuffle is not None and _shuffled(visit, shuffle):
        return
    labels = rebracket(visit, visit.axes(0), after)
    visit.roles(0, "source")
    visit.out(labels)
    if visit.node.op_type == "Reshape":
        visit.edit(ShapeInput(visit.node, 1, tuple(labels)))
    index = visit.index_of(0)
    if index is not None:
        visit.set_index(index)


def _shuffled(visit: Visit, shuffle: Shuffle) -> bool:
    """Any slot may go: the result has the labels of the source in another order; what is between has none.

    Returns False where another axis may shrink too: then its Reshapes need their sizes corrected as usual.
    """
    labels = list(visit.state.facts.values.get(shuffle.source, ()))
    others = [label for axis, label in enumerate(labels) if axis != shuffle.axis]
    if not all(map(is_fixed, others)) or is_fixed(labels[shuffle.axis]):
        return False
    if visit.node is not shuffle.last:
        visit.axes(0)
        visit.out(visit.top())
        return True
    before = labels[shuffle.axis]
    atoms = visit.flat(before, "shuffle")
    if atoms is not None:
        labels[shuffle.axis] = factor_of(atoms[shuffle.order])
        visit.edit(ShuffleGather(visit.node, before, shuffle))
    visit.axes(0)
    visit.out(labels)
    return True


def rebracket(visit: Visit, axes: Sequence[Label], after: Sequence[Size]) -> list[Label]:
    """Labels of the requested axes, made from the factors of the given ones, run by run."""
    out: list[Label] = []
    for ins, outs in _runs([size_of(label) for label in axes], after):
        out.extend(_run(visit, [axes[i] for i in ins], [after[i] for i in outs]))
    return out


def _runs(before: Sequence[Size], after: Sequence[Size]) -> list[tuple[list[int], list[int]]]:
    """Shortest stretches of axes whose products agree at both points."""
    runs: list[tuple[list[int], list[int]]] = []
    ins: list[int] = []
    outs: list[int] = []
    i = j = 0
    left = right = ONE
    while i < len(before) or j < len(after):
        if j >= len(after) or (i < len(before) and left <= right):
            ins.append(i)
            left, i = times(left, before[i]), i + 1
        else:
            outs.append(j)
            right, j = times(right, after[j]), j + 1
        if left == right and ins and outs:
            runs.append((ins, outs))
            ins, outs, left, right = [], [], ONE, ONE
    if ins or outs:
        runs.append((ins, outs))
    return runs


def _run(visit: Visit, ins: list[Label], outs: list[Size]) -> list[Label]:
    if all(is_fixed(label) for label in ins):
        return [visit.fixed(size, _reason(ins, visit)) for size in outs]
    if len(ins) == 1 and len(outs) == 1:
        return [ins[0]]
    factors = _joined([factor for label in ins for factor in visit.normal(label)])
    boundaries = prefixes([Factor(size) for size in outs])
    cuts = chain(prefixes(factors), boundaries)
    if cuts is None or boundaries[-1] != prefixes(factors)[-1]:
        for label in ins:
            visit.fix(label, "Reshape mixes it with an axis that does not divide evenly")
        return [visit.fixed(size, "Reshape mixes axes that do not divide evenly") for size in outs]
    return _grouped(visit.refined(factors, cuts), outs)


def _reason(ins: list[Label], visit: Visit) -> str:
    for label in ins:
        for factor in label:
            if factor.why > 0:
                return visit.state.events[factor.why].reason
    return ""


def _joined(factors: list[Factor]) -> Label:
    """Merges neighbouring fixed factors, whose inner boundaries mean nothing."""
    out: list[Factor] = []
    for factor in factors:
        if out and out[-1].atoms is None and factor.atoms is None:
            out[-1] = Factor(times(out[-1].size, factor.size), None, max(out[-1].why, factor.why))
        else:
            out.append(factor)
    return tuple(out)


def _grouped(factors: Label, outs: list[Size]) -> list[Label]:
    labels: list[Label] = []
    rest = list(factors)
    for size in outs:
        taken: list[Factor] = []
        while size_of(tuple(taken)) != size:
            taken.append(rest.pop(0))
        labels.append(tuple(f for f in taken if f.size != ONE))
    return labels


def transpose(visit: Visit) -> None:
    """Permutes labels."""
    shuffle = visit.state.shuffles.get(visit.node)
    if shuffle is not None and _shuffled(visit, shuffle):
        return
    axes = visit.axes(0)
    perm = visit.ints_attr("perm") or tuple(reversed(range(len(axes))))
    visit.roles(0, "source")
    visit.out([axes[i] for i in perm])
    index = visit.index_of(0)
    if index is not None:
        visit.set_index(index)


def squeeze(visit: Visit) -> None:
    """Drops size-1 axes; implicit ones are written down, so that a width of 1 stays."""
    axes, shape = visit.axes(0), visit.shape(0)
    if shape is None:
        visit.fix_all("its shape is not known here")
        return
    given = axes_of([None, visit.constant(1)], visit.node.attributes)
    dropped = (
        [i for i, size in enumerate(shape) if size == ONE]
        if given is None
        else [a % len(shape) for a in given]
    )
    if given is None:
        visit.edit(SqueezeAxes(visit.node, tuple(dropped)))
    visit.out([label for i, label in enumerate(axes) if i not in dropped])
    index = visit.index_of(0)
    if index is not None:
        visit.set_index(index)


def unsqueeze(visit: Visit) -> None:
    """Inserts size-1 axes."""
    after = visit.out_shape()
    given = axes_of([None, visit.constant(1)], visit.node.attributes)
    if after is None or given is None:
        visit.fix_all("its axes are not constant")
        return
    new = {axis % len(after) for axis in given}
    rest = iter(visit.axes(0))
    visit.roles(0, "source")
    visit.out([() if i in new else next(rest) for i in range(len(after))])
    index = visit.index_of(0)
    if index is not None:
        visit.set_index(index)


def expand(visit: Visit) -> None:
    """A size-1 axis that becomes n gets fresh atoms (copies may be removed); other axes pass."""
    before, after = visit.shape(0), visit.out_shape()
    if before is None or after is None:
        visit.fix_all("its shape is not known here")
        return
    axes = visit.axes(0)
    out: list[Label] = []
    for axis in range(-len(after), 0):
        same = -axis <= len(before) and before[axis] != ONE
        out.append(axes[axis] if same else visit.fresh(after[axis], axis))
    visit.out(out)
    visit.edit(ShapeInput(visit.node, 1, tuple(out)))


def constant_of_shape(visit: Visit) -> None:
    """Copies of one value: fresh atoms on every static axis."""
    out = [visit.fresh(size, axis) for axis, size in enumerate(visit.out_shape() or ())]
    visit.out(out)
    visit.edit(ShapeInput(visit.node, 0, tuple(out)))


def tile(visit: Visit) -> None:
    """Repeats are an outer factor of fresh atoms."""
    before, repeats = visit.shape(0), visit.data(1)
    if before is None or repeats is None or len(repeats.a) != len(before):
        visit.fix_all("its repeats are not known")
        return
    counts = [
        visit.fresh((int(a), int(b)), axis)
        for axis, (a, b) in enumerate(zip(repeats.a, repeats.b, strict=True))
    ]
    visit.out([(*count, *label) for count, label in zip(counts, visit.axes(0), strict=True)])
    visit.edit(ShapeInput(visit.node, 1, tuple(counts)))


def pad(visit: Visit) -> None:
    """Constant padding of a labelled axis adds real slots: fresh atoms before and after."""
    shape = visit.shape(0)
    given = visit.data(1)
    pads = given.a if given is not None else visit.ints_attr("pads")
    if shape is None or pads is None:
        visit.fix_all("its pads are not known")
        return
    axes = _pad_axes(visit, len(shape))
    amounts = [int(p) for p in np.ravel(np.asarray(pads))]
    out = list(visit.axes(0))
    for index, axis in enumerate(axes):
        before, after = amounts[index], amounts[index + len(axes)]
        if before or after:
            out[axis] = _padded(visit, axis, out[axis], before, after)
    visit.out(out)


def _pad_axes(visit: Visit, rank: int) -> list[int]:
    given = visit.data(3)
    return list(range(rank)) if given is None else [int(a) % rank for a in np.ravel(given.a)]


def _padded(visit: Visit, axis: int, label: Label, before: int, after: int) -> Label:
    size = (visit.out_shape() or ())[axis]
    constant = visit.str_attr("mode", "constant") == "constant"
    if (
        (is_fixed(label) and label)
        or not label
        or min(before, after) < 0
        or not constant
        or not is_static(size)
    ):
        visit.fix(label, "padding reads its border")
        return visit.fixed(size, "padded axis")
    inner = visit.flat(label, ("pad", axis))
    if inner is None:
        return visit.fixed(size, "padded axis")
    labels = [
        visit.fresh((n, n), ("pad", axis, side)) if n else ()
        for side, n in (("before", before), ("after", after))
    ]
    pieces = [
        visit.flat_or_pinned(piece, n, ("pad", axis, i))
        for i, (piece, n) in enumerate(zip(labels, (before, after), strict=True))
    ]
    visit.edit(PadCounts(visit.node, axis, factor_label(pieces[0]), factor_label(pieces[1])))
    return factor_of(np.concatenate([pieces[0], inner, pieces[1]]))


def factor_label(atoms: Ids) -> Label:
    """A label with one atom per slot, also for zero or one slot."""
    return (Factor((len(atoms), len(atoms)), atoms),)


def depth_to_space(visit: Visit) -> None:
    """in.1 = (b, b, C') or, in CRD mode, (C', b, b); the block factors are fixed, out.1 = C'."""
    shape = visit.shape(0)
    if shape is None or not is_static(shape[1]):
        visit.fix_all("its shape is not known here")
        return
    fix_positions(visit)
    block = visit.int_attr("blocksize", 1)
    channels = shape[1][0] // (block * block)
    blocks_first = visit.str_attr("mode", "DCR") == "DCR"
    refined = visit.refine(
        visit.axis(0, 1), (block, block, channels) if blocks_first else (channels, block, block)
    )
    if refined is None:
        visit.out([visit.axis(0, 0), visit.fixed((channels, channels)), *visit.top()[2:]])
        return
    cut = block * block if blocks_first else channels
    first, second = visit.between(refined, 1, cut), visit.between(refined, cut, shape[1][0])
    kept, blocks = (second, first) if blocks_first else (first, second)
    visit.fix(blocks, "DepthToSpace turns it into pixels")
    visit.out([visit.axis(0, 0), kept, *visit.top()[2:]])


def space_to_depth(visit: Visit) -> None:
    """out.1 = fixed block factors times in.1."""
    fix_positions(visit)
    block = visit.int_attr("blocksize", 1)
    blocks = visit.fixed((block * block, block * block), "SpaceToDepth makes it from pixels")
    visit.out([visit.axis(0, 0), (*blocks, *visit.axis(0, 1)), *visit.top()[2:]])


def reshape_shape(at: Sized) -> list[Shape | None] | None:
    """The target, with what it leaves open worked out at both points."""
    target = at.elements(1)
    if at.number("allowzero") == 1 or target is None:
        return None
    shape = at.input(0)
    one, two = (_reshaped([s[point] for s in shape], [t[point] for t in target]) for point in (0, 1))
    return None if one is None or two is None else [tuple(zip(one, two, strict=True))]


def _reshaped(dims: list[int], target: list[int]) -> list[int] | None:
    out = [dims[at] if size == 0 else size for at, size in enumerate(target)]
    holes = out.count(-1)
    if holes > 1 or min(out, default=1) < -1:
        return None
    if not holes:
        return out
    rest = -prod(out)
    if rest <= 0 or prod(dims) % rest:
        return None
    return [prod(dims) // rest if size == -1 else size for size in out]


def flatten_shape(at: Sized) -> list[Shape | None] | None:
    """Two axes: those before `axis`, and the rest."""
    shape, axis = at.input(0), at.number("axis", 1)
    if not 0 <= axis <= len(shape):
        return None
    parts = (shape[:axis], shape[axis:])
    return [tuple((prod(a for a, _ in part), prod(b for _, b in part)) for part in parts)]


def transpose_shape(at: Sized) -> list[Shape | None] | None:
    """The axes in their new order."""
    shape = at.input(0)
    perm = at.numbers("perm") if "perm" in at.node.attributes else list(range(len(shape)))[::-1]
    return [tuple(shape[axis] for axis in perm)] if sorted(perm) == list(range(len(shape))) else None


def _axes(at: Sized) -> list[Size] | None:
    """Of a Squeeze or Unsqueeze: its second input, or the attribute of older opsets."""
    if at.has(1):
        return at.elements(1)
    return [(axis, axis) for axis in at.numbers("axes")] if "axes" in at.node.attributes else None


def unsqueeze_shape(at: Sized) -> list[Shape | None] | None:
    """New axes of size 1."""
    shape, axes = at.input(0), _axes(at)
    if axes is None:
        return None
    rank = len(shape) + len(axes)
    new = {a % rank for a, b in axes if a == b and -rank <= a < rank}
    if len(new) != len(axes):
        return None
    rest = iter(shape)
    return [tuple(ONE if axis in new else next(rest) for axis in range(rank))]


def squeeze_shape(at: Sized) -> list[Shape | None] | None:
    """Without the axes of size 1 that it names."""
    shape, axes = at.input(0), _axes(at)
    if axes is None:
        return None
    gone = {a % len(shape) for a, b in axes if a == b and -len(shape) <= a < len(shape)}
    if len(gone) != len(axes) or any(shape[axis] != ONE for axis in gone):
        return None
    return [tuple(size for axis, size in enumerate(shape) if axis not in gone)]


ROWS = (
    Record(
        ops("Reshape"),
        reshape,
        "both sides are one chain of factors, re-bracketed; a channel shuffle is a permutation",
        "structural",
        "target shape; a Gather in place of a shuffle",
        shaping=Shaping(reshape_shape),
        traits=traits(Trait.RESHAPE, Trait.LAYOUT),
    ),
    Record(
        ops("Flatten"),
        reshape,
        "as Reshape",
        "structural",
        shaping=Shaping(flatten_shape),
        traits=traits(Trait.RESHAPE, Trait.LAYOUT),
    ),
    Record(
        ops("Transpose"),
        transpose,
        "permutes labels",
        "structural",
        shaping=Shaping(transpose_shape),
        traits=traits(Trait.TRANSPOSE, Trait.LAYOUT),
    ),
    Record(
        ops("Squeeze"),
        squeeze,
        "drops size-1 axes",
        "structural",
        "writes implicit axes down",
        shaping=Shaping(squeeze_shape),
        traits=traits(Trait.RESHAPE, Trait.LAYOUT),
    ),
    Record(
        ops("Unsqueeze"),
        unsqueeze,
        "inserts size-1 axes",
        "structural",
        shaping=Shaping(unsqueeze_shape),
        traits=traits(Trait.RESHAPE, Trait.LAYOUT),
    ),
    Record(
        ops("Expand"),
        expand,
        "size 1 to n: fresh atoms; others pass",
        "structural",
        "target shape",
        shaping=Shaping(),
        traits=traits(Trait.REPEAT),
    ),
    Record(
        ops("ConstantOfShape"), constant_of_shape, "fresh atoms on static axes", "structural", "target shape"
    ),
    Record(
        ops("Tile"), tile, "out = fresh repeats x in", "structural", "repeats", traits=traits(Trait.REPEAT)
    ),
    Record(ops("Pad"), pad, "out = fresh slots, in, fresh slots", "structural", "pads"),
    Record(
        ops("DepthToSpace"),
        depth_to_space,
        "in.1 = blocks x C' (DCR) or C' x blocks (CRD); blocks are fixed",
        "structural",
    ),
    Record(ops("SpaceToDepth"), space_to_depth, "out.1 = fixed blocks x in.1", "structural"),
)
