"""Shapes and element types that several families share; sizes are pairs, at two points (see ir.shapes)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphprune.ir.operators import (
    ONE,
    Shape,
    ShapeRule,
    Shaping,
    Size,
    Sized,
    TypeRule,
)


def always(kind: ir.DataType) -> TypeRule:
    """Outputs have this element type."""
    return lambda at, output: kind


def same(at: Sized) -> list[Shape | None] | None:
    """The only output has the shape of the first input."""
    return [at.input(0)] if len(at.node.outputs) == 1 else None


def broadcast(*positions: int) -> ShapeRule:
    """The broadcast of some inputs, of all where none are named."""

    def rule(at: Sized) -> list[Shape | None]:
        taken = positions or range(len(at.node.inputs))
        return [broadcast_of(at, [at.input(position) for position in taken if at.has(position)])]

    return rule


def broadcast_of(at: Sized, shapes: Sequence[Shape]) -> Shape | None:
    """The broadcast of shapes; None, and a clash, where two sizes differ."""
    rank = max(len(shape) for shape in shapes)
    out: list[Size] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if -axis <= len(shape)} - {ONE}
        if len(sizes) > 1:
            at.clash(sizes)
            return None
        out.append(sizes.pop() if sizes else ONE)
    return tuple(out)


SAME = Shaping(same, axes="slotwise")
"""Element by element, or along axes that stay, with one output."""
BROADCAST = Shaping(broadcast(), axes="slotwise")
"""Element by element over all inputs."""


def scaled(size: Size, numerator: int, denominator: int = 1) -> Size:
    """A multiple of a size, or a part of it."""
    return size[0] * numerator // denominator, size[1] * numerator // denominator


def plus(a: Size, b: Size) -> Size:
    """The sum of two sizes."""
    return a[0] + b[0], a[1] + b[1]


def global_pool(at: Sized) -> list[Shape | None]:
    """Batch and channels stay; every position becomes one."""
    x = at.input(0)
    rest = (ONE,) * (len(x) - 2)
    return [(x[0], *rest, x[-1]) if at.number("channels_last") else (*x[:2], *rest)]


def joined(at: Sized, parts: Sequence[Shape]) -> list[Shape | None] | None:
    """Inputs one after the other along an axis; None, and a clash, where another axis differs."""
    if len({len(part) for part in parts}) != 1:
        return None
    axis = at.number("axis") % len(parts[0])
    columns = list(zip(*parts, strict=True))
    differing = [set(sizes) for other, sizes in enumerate(columns) if other != axis and len(set(sizes)) > 1]
    for sizes in differing:
        at.clash(sizes)
    total = (sum(a for a, _ in columns[axis]), sum(b for _, b in columns[axis]))
    return None if differing else [(*parts[0][:axis], total, *parts[0][axis + 1 :])]


# -- convolutions


def conv(weight: int = 1, last: bool | None = None) -> ShapeRule:
    """A convolution with channels first or last, or as its attribute says."""

    def rule(at: Sized) -> list[Shape | None] | None:
        x = at.input(0)
        turned = at.number("channels_last") == 1 if last is None else last
        found = _conv(at, (x[0], x[-1], *x[1:-1]) if turned else x, at.input(weight))
        if found is None:
            return None
        return [(found[0], *found[2:], found[1]) if turned else found]

    return rule


def _conv(at: Sized, data: Shape, weight: Shape) -> Shape | None:
    """Channels first; None for automatic padding, and where the window does not fit."""
    rank = len(data) - 2
    if rank < 1 or len(weight) != len(data) or at.text("auto_pad", "NOTSET") != "NOTSET":
        return None
    strides, dilations = at.numbers("strides") or [1] * rank, at.numbers("dilations") or [1] * rank
    pads = at.numbers("pads") or [0] * 2 * rank
    spatial: list[Size] = []
    for axis in range(rank):
        window = dilations[axis] * (weight[axis + 2][0] - 1) + 1
        free = pads[axis] + pads[axis + rank] - window
        one, two = data[axis + 2]
        a, b = (one + free) // strides[axis] + 1, (two + free) // strides[axis] + 1
        if a < 1 or b < 1:
            return None
        spatial.append((a, b))
    return (data[0], weight[0], *spatial)


# -- products


def product(a: int = 0, b: int = 1) -> ShapeRule:
    """A matrix product with optional transpositions; batch axes broadcast."""

    def rule(at: Sized) -> list[Shape | None]:
        left = _turned(at.input(a), at.number("transA") == 1)
        right = _turned(at.input(b), at.number("transB") == 1)
        rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
        batch = broadcast_of(at, [left[:-2], right[:-2]])
        return [None if batch is None else (*batch, *rows, *columns)]

    return rule


def _turned(shape: Shape, swap: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if swap and len(shape) > 1 else shape
