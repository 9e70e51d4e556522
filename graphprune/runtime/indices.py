"""Which integer inputs are indices, and into how many rows: an embedding table answers that."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

# Operators whose output holds nothing but values of the given inputs.
MOVES = frozenset(
    {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Expand", "Slice"}
    | {"Concat", "Split", "Tile", "Where", "Clip", "Max", "Min"}
)
# (operator, position of the indices) -> position of the table, and its axis (None: attribute `axis`).
LOOKUPS: dict[tuple[str, int], tuple[int, int | None]] = {
    ("Gather", 1): (0, None),
    ("GatherElements", 1): (0, None),
    ("GatherBlockQuantized", 1): (0, 0),
    ("EmbedLayerNormalization", 0): (2, 0),
    ("EmbedLayerNormalization", 1): (4, 0),
    ("EmbedLayerNormalization", 7): (3, 0),
}
SAME_SHAPE = frozenset({"DequantizeLinear", "Cast", "Identity"})


def index_bound(value: ir.Value) -> int | None:
    """The smallest table that a value indexes, or None when it indexes none of known size."""
    sizes = [size for size in map(_rows, _lookups(value)) if size is not None and size > 0]
    return min(sizes, default=None)


def _lookups(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Every use of the value that looks something up, through operators that only move values."""
    pending, seen = [value], {value}
    while pending:
        for node, position in pending.pop().uses():
            if (node.op_type, position) in LOOKUPS or (node.op_type == "OneHot" and position == 0):
                yield node, position
            elif node.op_type in MOVES or (node.op_type == "Gather" and position == 0):
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                pending.extend(fresh)


def _rows(use: tuple[ir.Node, int]) -> int | None:
    node, position = use
    if node.op_type == "OneHot":
        depth = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
        return int(depth.numpy().item()) if depth is not None and depth.size == 1 else None
    table, axis = LOOKUPS[node.op_type, position]
    data = node.inputs[table] if table < len(node.inputs) else None
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
        if node is None or node.op_type not in SAME_SHAPE:
            return None
        value = node.inputs[0]
    if value is None:
        return None
    return ir.Shape(value.const_value.shape.numpy()) if value.const_value is not None else value.shape
