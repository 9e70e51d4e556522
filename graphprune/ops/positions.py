"""Index-typed values (docs/theory.md#positions): which readers keep their meaning, which make it public."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.ir.evaluate import CannotEvaluateError, evaluator
from graphprune.labels.algebra import Label, size_of
from graphprune.labels.state import State, Table

MOVING = frozenset(
    ["Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Slice", "Split", "Gather"]
)
"""Operators that move positions about; their rules say what their results point to."""
ADDRESSING = {"Gather": 1, "ScatterElements": 1, "GatherElements": 1, "OneHot": 0}
"""Operators that look positions up, and the input that holds them."""
COMPUTING = frozenset(
    ["Cast", "Div", "Mul", "Add", "Sub", "Floor", "Ceil", "Clip", "Min", "Max", "Mod", "Reshape"]
)
"""Operators after which a position is still known, as a number that depends on nothing else."""
LARGEST = 1 << 16


def carry(state: State, node: ir.Node) -> None:
    """Follows positions through a node, or pins their axis where something else reads them."""
    facts = state.facts
    for position, value in enumerate(node.inputs):
        if value is None or value not in facts.indices:
            continue
        label = facts.indices[value]
        if not _understood(state, node, position, value, label):
            why = state.event(f"{node.op_type} reads its positions as numbers", node.name or node.op_type)
            state.algebra.pin(label, why)


def _understood(state: State, node: ir.Node, position: int, value: ir.Value, label: Label) -> bool:
    numbers = value in state.facts.tables
    if node.op_type in ("Shape", "Size"):
        return True  # they read no element
    if node.op_type in ADDRESSING and position == ADDRESSING[node.op_type]:
        return not numbers
    if node.op_type == "TopK" and position == 0:
        return _sorted(state, node, value, label)
    if node.op_type == "Equal":
        return not numbers and node.outputs[0] in state.facts.values and _compared(node, position)
    if node.op_type in MOVING and position == 0:
        if numbers:
            state.facts.indices[node.outputs[0]] = label
            state.facts.tables[node.outputs[0]] = state.facts.tables[value]
        return not numbers or len(node.outputs) == 1
    return node.op_type in COMPUTING and _computed(state, node, position, value, label)


def _compared(node: ir.Node, position: int) -> bool:
    """The rule of Equal renumbers a constant on the other side."""
    other = node.inputs[1 - position]
    return other is not None and other.producer() is None and other.const_value is not None


def _sorted(state: State, node: ir.Node, value: ir.Value, label: Label) -> bool:
    """Renumbering keeps the order of positions, so sorting them commutes with it."""
    if value in state.facts.tables:
        return False
    state.facts.indices[node.outputs[0]] = label
    return True


def _computed(state: State, node: ir.Node, position: int, value: ir.Value, label: Label) -> bool:
    """Evaluates the operator on every position; a result equal to its position is one again."""
    size = size_of(label)[0]
    others = [None if v is None else v.const_value for v in node.inputs]
    if size > LARGEST or any(
        p != position and v is not None and (tensor is None or v.producer() is not None or tensor.size != 1)
        for p, (v, tensor) in enumerate(zip(node.inputs, others, strict=True))
    ):
        return False
    table = state.facts.tables.get(value, np.arange(size, dtype=_kind(value)))
    found = _evaluated(node, position, table)
    if found is None or found.shape != table.shape:
        return False
    out = node.outputs[0]
    state.facts.indices[out] = label
    state.facts.tables.pop(out, None)
    if not np.array_equal(found, np.arange(size)):
        state.facts.tables[out] = found
    return True


def _evaluated(node: ir.Node, position: int, table: Table) -> Table | None:
    function = evaluator(node.op_type)
    inputs = [
        None if v is None or v.const_value is None else np.asarray(v.const_value.numpy()) for v in node.inputs
    ]
    inputs[position] = table
    if node.op_type == "Clip":
        return np.asarray(
            np.clip(table, *[None if a is None else a.ravel()[0] for a in (*inputs, None, None)[1:3]])
        )
    if function is None or any(a is not None and a.ndim and a is not table for a in inputs):
        return None
    try:
        return np.asarray(function(inputs, node.attributes))
    except (CannotEvaluateError, ValueError, TypeError, IndexError):
        return None


def _kind(value: ir.Value) -> np.dtype[np.generic]:
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.int64)
