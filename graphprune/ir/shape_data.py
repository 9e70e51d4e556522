"""The elements of small values at both generic points: constants, and what shape arithmetic makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.domains import is_default
from graphprune.ir.evaluate import MOVES, CannotEvaluateError, evaluator

DATA_LIMIT = 4096
"""Values with more elements than this are never shape arithmetic."""
_FAILURES = (
    CannotEvaluateError,
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
)


COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
DECIDES = frozenset(["Min", "Max", "ReduceMin", "ReduceMax", "Clip", "Where", "Mod", "Abs", *COMPARISONS])
"""Operators whose results can be the same at both points and another one elsewhere: min(400, n), n > 400."""
ROUNDS = frozenset(["Cast", "Floor", "Ceil", "Round"])


@dataclass(frozen=True)
class Data:
    """The elements of a small value at both points.

    Attributes:
        a, b: at each point.
        dynamic: which elements depend on a symbolic dimension.
        decided: which of these a comparison of sizes had a part in; None for none.
    """

    a: Array
    b: Array
    dynamic: Array
    decided: Array | None = None

    @property
    def doubtful(self) -> bool:
        """Whether an element may be the same at both points by chance."""
        return self.decided is not None and bool((self.decided & (self.a == self.b)).any())

    @property
    def static(self) -> bool:
        """Whether every element is the same at both points."""
        return self.a is self.b or not self.dynamic.any()


def constant(array: Array) -> Data:
    """A value that no symbolic dimension has a part in."""
    return Data(array, array, np.zeros(array.shape, bool))


def propagate(node: ir.Node, data: Mapping[ir.Value, Data]) -> Data | None:
    """What a node computes from small known values; None when one is unknown or the operator has no meaning.

    The two results may differ in shape, where a dimension decides how many elements there are.
    """
    function = evaluator(node.op_type) if is_default(node.domain) else None
    if function is None or len(node.outputs) != 1 or not node.inputs:
        return None
    known: list[Data | None] = []
    for value in node.inputs:
        found = None if value is None else data.get(value)
        if found is None and value is not None:
            return None
        known.append(found)
    try:
        a = function([None if k is None else k.a for k in known], node.attributes)
        if all(k is None or k.a is k.b for k in known):
            return constant(a)
        b = function([None if k is None else k.b for k in known], node.attributes)
        dynamic = _moved(node, known, a, [None if k is None else k.dynamic for k in known])
        return Data(a, b, dynamic, _decided(node, known, a, b, dynamic))
    except _FAILURES:
        return None


def _decided(node: ir.Node, known: Sequence[Data | None], a: Array, b: Array, dynamic: Array) -> Array | None:
    """Elements that are the same at both points because of a comparison, here or before."""
    fresh = dynamic & (a == b) if a.shape == b.shape else None
    if fresh is not None and fresh.any():
        fresh &= _may_decide(node, known, a)
    fresh = fresh if fresh is not None and fresh.any() else None
    marks = [None if k is None or k.decided is None else k.decided for k in known]
    if all(mark is None for mark in marks):
        return fresh
    full = [
        mark if mark is not None or k is None else np.zeros(k.a.shape, bool)
        for mark, k in zip(marks, known, strict=True)
    ]
    before = _moved(node, known, a, full)
    return before if fresh is None else before | fresh


def _may_decide(node: ir.Node, known: Sequence[Data | None], result: Array) -> Array:
    """Where the operator compares, rounds, or divides with a rest."""
    operands = [k.a for k in known if k is not None]
    if node.op_type in ROUNDS:
        return np.asarray(operands[0] != result)
    if node.op_type == "Div" and np.issubdtype(result.dtype, np.integer):
        return np.asarray(np.multiply(result, operands[1]) != operands[0])
    return np.full(result.shape, node.op_type in DECIDES)


def _moved(
    node: ir.Node, known: Sequence[Data | None], result: Array, marks: Sequence[Array | None]
) -> Array:
    """What is marked in the inputs, carried over to the result."""
    if not any(mark is not None and mark.any() for mark in marks):
        return np.zeros(result.shape, bool)
    first = 1 if node.op_type != "Concat" else len(known)
    if node.op_type in MOVES and all(k is None or k.static for k in known[first:]):
        moved = [*marks[:first], *(None if k is None else k.a for k in known[first:])]
        return MOVES[node.op_type](moved, node.attributes)
    spread = np.zeros(result.shape, bool)
    try:
        for mark in marks:
            spread = spread if mark is None else spread | mark
    except ValueError:
        return np.ones(result.shape, bool)
    return spread if spread.shape == result.shape else np.ones(result.shape, bool)
