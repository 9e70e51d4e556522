"""Where the weight that a node reads is stored: behind a chain of constant nodes, or right there."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx_ir as ir

from graphprune.ir.operators import Shape
from graphprune.labels.state import Chain, Step, Steps

Axes = tuple[int | None, ...]
Shapes = Mapping[ir.Value, Shape | None]


def chain_of(value: ir.Value, shapes: Shapes, step_of: Steps) -> Chain | None:
    """The chain that ends at a value; None where it is no moved, cast or dequantised initializer."""
    steps: list[ir.Node] = []
    start = value
    while not is_stored(start):
        node = start.producer()
        first = node.inputs[0] if node is not None and node.inputs else None
        if node is None or first is None or step_of(node) is None or not all(map(_given, node.inputs[1:])):
            return None
        steps.insert(0, node)
        start = first
    rank = len(start.const_value.shape) if start.const_value is not None else 0
    axes: Axes = tuple(range(rank))
    for node in steps:
        axes = _through(node, step_of(node), axes, shapes)
    return Chain(start, tuple(steps), axes)


def is_stored(value: ir.Value | None) -> bool:
    """Whether a value is an initializer with its contents."""
    return value is not None and value.const_value is not None and value.producer() is None


def _given(value: ir.Value | None) -> bool:
    return value is None or is_stored(value)


def _through(node: ir.Node, step: Step | None, axes: Axes, shapes: Shapes) -> Axes:
    if step == "kept":
        return axes
    if step == "transposed":
        order = node.attributes.get_ints("perm", range(len(axes))[::-1])
        return tuple(axes[axis] for axis in order)
    before, after = (shapes.get(v) for v in (node.inputs[0], node.outputs[0]) if v is not None)
    return () if before is None or after is None else _reshaped(before, after, axes)


def _reshaped(before: Shape, after: Shape, axes: Axes) -> Axes:
    """An axis is the same behind a reshape where as many elements stand before it and in it."""
    starts = {(prod(n for n, _ in before[:at]), n): at for at, (n, _) in enumerate(before) if n > 1}
    places = [starts.get((prod(n for n, _ in after[:at]), size)) for at, (size, _) in enumerate(after)]
    return tuple(None if at is None else axes[at] for at in places)
