"""Reshape, Transpose, Reshape: a fixed permutation of one axis (docs/theory.md#channel-shuffles)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from graphprune.ir.operators import Shape
from graphprune.ir.reach import only_for
from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Shuffle


def find_shuffles(nodes: Iterable[ir.Node], sizes: Sizes) -> dict[ir.Node, Shuffle]:
    """Maps the three nodes of every shuffle to it."""
    found: dict[ir.Node, Shuffle] = {}
    for node in nodes:
        shuffle = _shuffle(node, sizes) if node.op_type == "Transpose" and not node.domain else None
        if shuffle is not None:
            found |= dict.fromkeys((shuffle.first, shuffle.middle, shuffle.last), shuffle)
    return found


def _shuffle(middle: ir.Node, sizes: Sizes) -> Shuffle | None:
    parted = middle.inputs[0]
    first = parted.producer() if parted is not None else None
    last = _only_reader(middle)
    if (
        first is None
        or last is None
        or first.op_type != "Reshape"
        or last.op_type != "Reshape"
        or first.graph is not last.graph
    ):
        return None
    if _only_reader(first) is not middle or "perm" not in middle.attributes or first.inputs[0] is None:
        return None
    before, between, after = (
        sizes.shapes.get(v) for v in (first.inputs[0], parted, last.outputs[0]) if v is not None
    )
    if before is None or between is None or before != after:
        return None
    perm = tuple(middle.attributes["perm"].as_ints())
    axis = _parted_axis(before, between, perm)
    if axis is None:
        return None
    count = len(between) - len(before) + 1
    factors = [size[0] for size in between[axis : axis + count]]
    grid = np.arange(before[axis][0]).reshape(factors)
    order = grid.transpose([p - axis for p in perm[axis : axis + count]]).ravel()
    if np.array_equal(order, np.arange(len(order))):
        return None
    inner = first.inputs[0].producer()
    helpers = frozenset(only_for({first, middle, last}, inner) - {first, middle, last})
    return Shuffle(first, middle, last, axis, order, helpers)


def _only_reader(node: ir.Node) -> ir.Node | None:
    uses = node.outputs[0].uses()
    readers = {user for user, _ in uses}
    return next(iter(readers)) if len(readers) == 1 and not node.outputs[0].is_graph_output() else None


def _parted_axis(before: Shape, between: Shape, perm: tuple[int, ...]) -> int | None:
    """The one axis that becomes several, if the permutation moves only those."""
    count = len(between) - len(before) + 1
    axis = next((i for i, (a, b) in enumerate(zip(before, between, strict=False)) if a != b), None)
    if count < 2 or axis is None or before[axis][0] != before[axis][1]:
        return None
    parts, end = between[axis : axis + count], axis + count
    whole = (int(np.prod([p[0] for p in parts])), int(np.prod([p[1] for p in parts])))
    if whole != before[axis] or between[end:] != before[axis + 1 :] or any(p[0] != p[1] for p in parts):
        return None
    outside = [i for i in range(len(perm)) if not axis <= i < end]
    moved = perm[axis:end] != tuple(range(axis, end))
    return axis if moved and all(perm[i] == i for i in outside) else None
