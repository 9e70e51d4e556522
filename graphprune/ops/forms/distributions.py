"""Softmax in primitive operators: exponentials over their sum, as JAX and early TensorFlow write it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.ir.evaluate import axes_of
from graphprune.ops import has
from graphprune.ops.traits import Trait

DEPTH = 8


@dataclass(frozen=True)
class Distribution:
    """What a written-out Softmax computes.

    Attributes:
        logits: whose exponentials are divided by their sum, or that sum's logarithm taken from.
        axis: of classes, as the sum names it: negative ones count from the end.
        log: whether it is the logarithm of a Softmax.
    """

    logits: ir.Value
    axis: int
    log: bool = False


def distribution(node: ir.Node) -> Distribution | None:
    """The Softmax that a node ends, e / ReduceSum(e), e * Reciprocal(ReduceSum(e)) or z - Log(ReduceSum(e)).

    e is Exp(z) in all of them. None for any other node.
    """
    if _is(node, "Div"):
        return _of(_exponent(node.inputs[0]), node.inputs[1])
    if _is(node, "Mul"):
        for one, other in (node.inputs, node.inputs[::-1]):
            inverse = _made(other, "Reciprocal")
            if inverse is not None and (found := _of(_exponent(one), inverse.inputs[0])):
                return found
    if _is(node, "Sub"):
        logarithm = _made(node.inputs[1], "Log")
        return None if logarithm is None else _of(node.inputs[0], logarithm.inputs[0], log=True)
    return None


def _of(logits: ir.Value | None, total: ir.Value | None, log: bool = False) -> Distribution | None:
    """If the total is the sum over one axis of the exponentials of the logits."""
    summed = _made(total, "ReduceSum")
    if logits is None or summed is None or _exponent(summed.inputs[0]) is not logits:
        return None
    axis = summed.inputs[1].const_value if len(summed.inputs) > 1 and summed.inputs[1] is not None else None
    if axis is None and "axes" not in summed.attributes:
        return None
    axes = axes_of([None, None if axis is None else axis.numpy()], summed.attributes)
    return Distribution(logits, axes[0], log) if axes is not None and len(axes) == 1 else None


def _exponent(value: ir.Value | None) -> ir.Value | None:
    node = _made(value, "Exp")
    return None if node is None else node.inputs[0]


def _made(value: ir.Value | None, name: str) -> ir.Node | None:
    """The operator of this name that makes a value, or its elements in another shape or number."""
    for _ in range(DEPTH):
        node = value.producer() if value is not None else None
        if node is None:
            return None
        if _is(node, name):
            return node
        if not (has(node, Trait.COPY, Trait.RESHAPE) or _is(node, "Expand")):
            return None
        value = node.inputs[0]
    return None


def _is(node: ir.Node, name: str) -> bool:
    return node.op_type == name and is_default(node.domain)
