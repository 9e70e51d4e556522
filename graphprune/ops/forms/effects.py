"""What a node makes of an input that is zero, or has no rows, because an expert was removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Effect
from graphprune.ops import has, record_of
from graphprune.ops.traits import Trait

Outcome = Effect | Literal["sum", "piece", "updates", "start"] | None

MOVES = (Trait.LAYOUT, Trait.CAST, Trait.PART, Trait.REPEAT, Trait.GATHER)
"""What a moved value is, it stays."""
PRODUCTS = frozenset(["Mul", "And", "MatMul", "Einsum", "BitwiseAnd"])


def effect_on(node: ir.Node, mine: Mapping[int, Effect], sizes: Sizes) -> Outcome:
    """The effect on the node's results, the kind of end it is for the branch, or None if it is neither.

    Args:
        node: a reader.
        mine: the effects on its inputs, by position.
        sizes: of the model.
    """
    if not is_default(node.domain):
        return None
    kinds = set(mine.values())
    if "empty" in kinds:
        return _empty(node, mine)
    if "offset" in kinds:
        return _offset(node, mine)
    if kinds == {"zero"}:
        return _zero(node, mine, sizes)
    return None


def _empty(node: ir.Node, mine: Mapping[int, Effect]) -> Outcome:
    op = node.op_type
    if op == "Concat":
        return "empty" if len(mine) == len(node.inputs) else "piece"
    if op in ("ScatterND", "ScatterElements") and 0 not in mine and mine.get(1) == "empty":
        return "updates"
    if has(node, Trait.GATHER):
        return "empty" if mine.get(1) == "empty" else None
    if op in ("MatMul", "Gemm"):
        return "empty" if mine.get(0) == "empty" and 1 not in mine else None
    return "empty" if _goes_by_rows(node) else None


def _goes_by_rows(node: ir.Node) -> bool:
    """No rows in, no rows out."""
    row = record_of(node)
    if has(node, *MOVES, Trait.PROBABILITIES, Trait.LOG_PROBABILITIES, Trait.WIDTH_NORM):
        return True
    axes = None if row is None or row.shaping is None else row.shaping.axes
    return row is not None and row.exactness == "parallel" and axes == "slotwise"


def _offset(node: ir.Node, mine: Mapping[int, Effect]) -> Outcome:
    """A running count of a removed expert equals the count before it: its Range is empty."""
    if set(mine) == {0} and has(node, Trait.CAST, Trait.RESHAPE, Trait.COPY):
        return "offset"
    if node.op_type == "Range" and set(mine) == {1}:
        return "empty"
    return "start" if node.op_type == "Range" and set(mine) == {0} else None


def _zero(node: ir.Node, mine: Mapping[int, Effect], sizes: Sizes) -> Outcome:
    op = node.op_type
    if has(node, Trait.SUM):
        return "zero" if len(mine) == len(node.inputs) else _operand(node, mine, sizes)
    if op == "Concat":
        return "zero" if len(mine) == len(node.inputs) else _piece(node, mine, sizes)
    if op == "NonZero":
        return "empty"
    if op in PRODUCTS or (op == "Gemm" and (len(node.inputs) < 3 or node.inputs[2] is None)):
        return "zero"
    if op == "Where":
        return "zero" if mine.keys() in ({0}, {1}, {0, 1}) and _is_zero(node, 2) else None
    return "zero" if set(mine) == {0} and (op == "Div" or has(node, *MOVES, Trait.ZERO)) else None


def _operand(node: ir.Node, mine: Mapping[int, Effect], sizes: Sizes) -> Outcome:
    """A zero operand changes nothing, unless the sum has its shape."""
    rest = [v for p, v in enumerate(node.inputs) if p not in mine and v is not None]
    out = sizes.shapes.get(node.outputs[0])
    return "sum" if out is not None and any(sizes.shapes.get(v) == out for v in rest) else None


def _piece(node: ir.Node, mine: Mapping[int, Effect], sizes: Sizes) -> Outcome:
    """A single slot of the joined axis."""
    for position in mine:
        value = node.inputs[position]
        shape = sizes.shapes.get(value) if value is not None else None
        if shape is None or shape[node.attributes["axis"].as_int()] != (1, 1):
            return None
    return "piece"


def _is_zero(node: ir.Node, position: int) -> bool:
    value = node.inputs[position]
    tensor = value.const_value if value is not None and value.producer() is None else None
    return tensor is not None and tensor.size <= 4096 and not np.any(tensor.numpy())
