"""The elements of small values at both generic points: constants, and what shape arithmetic makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.evaluate import MOVES, Array, CannotEvaluateError, evaluator

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


@dataclass(frozen=True)
class Data:
    """The elements of a small value at both points."""

    a: Array
    b: Array
    dynamic: Array

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
    function = evaluator(node.op_type) if node.domain in ("", "ai.onnx") else None
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
        return Data(a, b, _dynamic(node, known, a))
    except _FAILURES:
        return None


def _dynamic(node: ir.Node, known: Sequence[Data | None], result: Array) -> Array:
    """Which elements of a result depend on a symbolic dimension."""
    if not any(k is not None and not k.static for k in known):
        return np.zeros(result.shape, bool)
    first = 1 if node.op_type != "Concat" else len(known)
    if node.op_type in MOVES and all(k is None or k.static for k in known[first:]):
        moved: list[Array | None] = [None if k is None else k.dynamic for k in known[:first]]
        moved += [None if k is None else k.a for k in known[first:]]
        return MOVES[node.op_type](moved, node.attributes)
    spread = np.zeros(result.shape, bool)
    try:
        for k in known:
            spread = spread if k is None else spread | k.dynamic
    except ValueError:
        return np.ones(result.shape, bool)
    return spread if spread.shape == result.shape else np.ones(result.shape, bool)
