"""Which integer inputs are indices, and into how many rows: an embedding table answers that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from graphprune.ir.nodes import input_of
from graphprune.ops import has, record_of
from graphprune.ops.record import Indices
from graphprune.ops.traits import Trait

MOVES = (Trait.CAST, Trait.LAYOUT, Trait.REPEAT, Trait.PART, Trait.JOIN, Trait.CLIP)
"""The output holds nothing but values of the inputs."""
INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)
SAME_SHAPE = (Trait.DEQUANTISE, Trait.CAST, Trait.COPY)


def index_bound(value: ir.Value) -> int | None:
    """The smallest table that a value indexes, or None when it indexes none of known size."""
    sizes = [size for size in map(_rows, _lookups(value)) if size is not None and size > 0]
    return min(sizes, default=None)


def outside(value: ir.Value, array: np.ndarray) -> tuple[int, int, str] | None:
    """An element with which the model cannot run: it is sure to reach a table, and that has no such row.

    Returns:
        Where it lies in the flat array, the rows of the table, and the name of what is looked up there.
    """
    if array.dtype.kind not in "iu":
        return None
    for use in _lookups(value, _keeps):
        size = _rows(use) if has(use[0], Trait.GATHER) and use[0].graph is value.graph else None
        if size:
            wrong = np.flatnonzero((array < -size) | (array >= size))
            if wrong.size:
                return int(wrong[0]), size, use[0].outputs[0].name or ""
    return None


def _moves(node: ir.Node, position: int) -> bool:
    """Whether a node's output holds nothing but values of this input, or of several."""
    return has(node, *MOVES) or (position == 0 and has(node, Trait.GATHER))


def _keeps(node: ir.Node, position: int) -> bool:
    """Whether a node's output holds every value of this input."""
    whole = has(node, Trait.CAST) and node.attributes.get_int("to", 0) in INTEGERS
    return position == 0 and (whole or has(node, Trait.LAYOUT))


def _lookups(
    value: ir.Value, passes: Callable[[ir.Node, int], bool] = _moves
) -> Iterator[tuple[ir.Node, Indices]]:
    """Every use of the value that looks something up, through operators that let its elements pass."""
    pending, seen = [value], {value}
    while pending:
        for node, position in pending.pop().uses():
            row = record_of(node)
            found = [each for each in row.indices if each.position == position] if row is not None else []
            if found:
                yield node, found[0]
            elif passes(node, position):
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
