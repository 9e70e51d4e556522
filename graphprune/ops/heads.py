"""What attention operators share: heads times head dims on one axis, scales, masks and caches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphprune.labels.algebra import ONE, Label, is_static
from graphprune.labels.edits import AttributeFloat
from graphprune.labels.visit import Visit
from graphprune.ops.select import picked

UNKNOWN = "its numbers of heads are not known"


@dataclass(frozen=True)
class Heads:
    """The label of an axis (or of two axes) that holds heads times head dims."""

    heads: Label
    dims: Label

    @property
    def packed(self) -> Label:
        """The label of one axis that holds both."""
        return (*self.heads, *self.dims)


@dataclass(frozen=True)
class Packed:
    """Q, K and V side by side on one axis of a weight or activation."""

    q: Heads
    k: Heads
    v: Heads
    sizes: tuple[int, int, int]


def static(visit: Visit, position: int, axis: int) -> int | None:
    """The size of an input's axis if it is the same for every symbolic dimension."""
    shape = visit.shape(position)
    if shape is None or len(shape) < abs(axis + (axis >= 0)) or not is_static(shape[axis]):
        return None
    return shape[axis][0]


def divided(visit: Visit, label: Label, width: int, heads: int) -> Heads | None:
    """Cuts a packed axis of `width` slots into heads and head dims."""
    if not heads or width % heads:
        visit.fix(label, f"its width is not a multiple of {heads} heads")
        return None
    refined = visit.refine(label, (heads, width // heads))
    if refined is None:
        return None
    return Heads(visit.between(refined, 1, heads), visit.between(refined, heads, width))


def grouped(visit: Visit, queries: Label, count: int, keys: Label, groups: int) -> None:
    """Query heads = (key heads, repeats): a key head goes with all its queries, a repeat in every group."""
    refined = visit.refine(queries, (groups, count // groups)) if groups and count % groups == 0 else None
    if refined is None:
        visit.fix(keys, "its query heads cannot be divided into groups")
        return
    visit.equal(visit.between(refined, 1, groups), keys)


def pieces(visit: Visit, label: Label, sizes: list[int], tag: str) -> list[Label]:
    """Contiguous stretches of an axis, such as Q, K and V packed side by side."""
    ends = np.cumsum(sizes)
    return [
        picked(visit, label, np.arange(end - size, end), tag) for end, size in zip(ends, sizes, strict=True)
    ]


def default_scale(visit: Visit, size: int, dims: Label, zero_is_default: bool = False) -> None:
    """Writes 1/sqrt(head size) down: the default would follow the pruned size (docs/theory.md#attention)."""
    given = visit.float_attr("scale", 0.0) if "scale" in visit.node.attributes else None
    if given is None or (zero_is_default and given == 0.0):
        visit.edit(AttributeFloat(visit.node, "scale", float(size) ** -0.5, dims))


def mask_heads(visit: Visit, position: int, heads: Label) -> None:
    """A mask or bias that broadcasts to [batch, heads, queries, keys]: heads are tied, tokens fixed."""
    if not visit.has(position):
        return
    shape = visit.shape(position) or ()
    visit.roles(position, "table")
    for axis in range(-len(shape), 0):
        label = visit.axis(position, axis)
        if axis == -3 and shape[axis] != ONE:
            visit.equal(label, heads)
        else:
            visit.fix(label, f"{visit.node.op_type} adds it to scores of tokens")


def tokens(visit: Visit, position: int, axis: int) -> Label:
    """The token axis of a query or key; attention reads tokens by position, so it is fixed."""
    label = visit.axis(position, axis)
    visit.fix(label, f"{visit.node.op_type} attends over its tokens")
    return label


def cache(visit: Visit, past: int, present: int, labels: list[Label]) -> None:
    """Past and present of one cache have the same labels; () where the axis is fixed."""
    if visit.has(past):
        for axis, label in enumerate(visit.axes(past)):
            if labels[axis] != ():
                visit.equal(label, labels[axis])
            elif (visit.shape(past) or ())[axis] != ONE:
                visit.fix(label, "it counts tokens of a cache")
    if present < len(visit.node.outputs):
        shape = visit.out_shape(present) or ()
        known = [
            label if label != () else visit.fixed(size) for label, size in zip(labels, shape, strict=False)
        ]
        visit.out(known, present)


def paired(
    visit: Visit, dims: Label, size: int, rotary: int, interleaved: bool, block: int = 1
) -> Label | None:
    """Ties the head dims that a rotation mixes; returns the label of the pairs (columns of the caches).

    Half layout: dim i turns with i + rotary/2. Interleaved: 2i with 2i + 1. With `block`, pairs (and the dims
    behind the rotated ones) go in whole blocks, for kernels that take only some head sizes.
    """
    half, behind = rotary // 2, size - rotary
    if rotary % 2 or (block > 1 and (half % block or behind % (2 * block))):
        visit.fix(dims, "its rotary pairs cannot be divided")
        return None
    turned, rest = (dims, ()) if rotary == size else pieces(visit, dims, [rotary, behind], "rotary")
    refined = visit.refine(turned, (half, 2) if interleaved else (2, half))
    if refined is None:
        return None
    cut = half if interleaved else 2
    first, second = visit.between(refined, 1, cut), visit.between(refined, cut, rotary)
    pairs, sides = (first, second) if interleaved else (second, first)
    visit.fix(sides, "both dims of a rotary pair go together")
    if block > 1:
        in_blocks(visit, pairs, half, block)
        if behind:
            in_blocks(visit, rest, behind, 2 * block)
    return pairs


def in_blocks(visit: Visit, label: Label, size: int, block: int) -> None:
    """Slots go in whole blocks of `block` neighbours."""
    if size % block:
        visit.fix(label, f"its width is not a multiple of {block}")
        return
    refined = visit.refine(label, (size // block, block))
    if refined is not None:
        visit.fix(
            visit.between(refined, size // block, size),
            f"{visit.node.op_type} takes widths in steps of {block}",
        )
