"""Which integer inputs are indices, and into how many rows: an embedding table answers that."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphprune.ir.nodes import input_of
from graphprune.ops import has, record_of
from graphprune.ops.record import Indices
from graphprune.ops.traits import Trait

MOVES = (Trait.CAST, Trait.LAYOUT, Trait.REPEAT, Trait.PART, Trait.JOIN, Trait.CLIP)
"""The output holds nothing but values of the inputs."""
SAME_SHAPE = (Trait.DEQUANTISE, Trait.CAST, Trait.COPY)


def index_bound(value: ir.Value) -> int | None:
    """The smallest table that a value indexes, or None when it indexes none of known size."""
    sizes = [size for size in map(_rows, _lookups(value)) if size is not None and size > 0]
    return min(sizes, default=None)


def _lookups(value: ir.Value) -> Iterator[tuple[ir.Node, Indices]]:
    """Every use of the value that looks something up, through operators that only move values."""
    pending, seen = [value], {value}
    while pending:
        for node, position in pending.pop().uses():
            row = record_of(node)
            found = [each for each in row.indices if each.position == position] if row is not None else []
            if found:
                yield node, found[0]
            elif has(node, *MOVES) or (position == 0 and has(node, Trait.GATHER)):
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                pending.extend(fresh)


def _rows(use: tuple[ir.Node, Indices]) -> int | None:
    node, (_, table, axis) = use
    data = input_of(node, table)
    if has(node, Trait.ONE_HOT):
        depth = ir.convenience.get_const_tensor(data) if data is not None else None
        return int(depth.numpy().item()) if depth is not None and depth.size == 1 else None
    shape = _shape(data)
    if axis is None:
        axis = node.attributes.get_int("axis", 0)
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) else None


def _shape(value: ir.Value | None) -> ir.Shape | None:
    while value is not None and value.shape is None and value.const_value is None:
        node = value.producer()
        if node is None or not has(node, *SAME_SHAPE):
            return None
        value = node.inputs[0]
    if value is None:
        return None
    return ir.Shape(value.const_value.shape.numpy()) if value.const_value is not None else value.shape
