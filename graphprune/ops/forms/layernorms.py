"""Normalisers that exporters wrote in primitive operators, recognised before labelling."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graphprune.ir.nodes import is_constant
from graphprune.labels.structures import VarianceRegion

MEANS = frozenset(["ReduceMean", "GlobalAveragePool"])
"""What a mean is written as; tf2onnx pools over the width of [batch, tokens, width]."""
FUSED = ("Add", "Sqrt", "Div", "Mul", "Add")
"""What ONNX Runtime wants behind the variance to make one LayerNormalization of it (tried on 1.31)."""


def find_regions(nodes: Iterable[ir.Node]) -> dict[ir.Node, VarianceRegion]:
    """Maps the means of every decomposed LayerNorm to their region."""
    found: dict[ir.Node, VarianceRegion] = {}
    for node in nodes:
        if node.op_type in MEANS and not node.domain:
            region = _region(node)
            if region is not None:
                found[region.mean] = found[region.variance] = region
                for centred in region.centred:
                    found[centred] = region
    return found


def _region(variance: ir.Node) -> VarianceRegion | None:
    square = _producer(variance, 0)
    if square is None or square.op_type not in ("Pow", "Mul"):
        return None
    centred = _producer(square, 0)
    if (
        centred is None
        or centred.op_type != "Sub"
        or (square.op_type == "Mul" and _producer(square, 1) is not centred)
    ):
        return None
    mean = _producer(centred, 1)
    if mean is None or mean.op_type != variance.op_type or mean.inputs[0] is not centred.inputs[0]:
        return None
    siblings = [user for user, position in mean.outputs[0].uses() if user.op_type == "Sub" and position == 1]
    return VarianceRegion(mean, variance, tuple(siblings), _is_fused(variance, square))


def _is_fused(variance: ir.Node, square: ir.Node) -> bool:
    """With Pow for the square, Div by the root, a constant scale and bias; any other form is not fused."""
    if variance.op_type != "ReduceMean" or square.op_type != "Pow":
        return False
    node: ir.Node | None = variance
    for position, op in enumerate(FUSED):
        assert node is not None
        node = next((user for user, _ in node.outputs[0].uses() if user.op_type == op), None)
        affine = position > 2
        if node is None or (affine and not any(is_constant(value) for value in node.inputs)):
            return False
    return True


def _producer(node: ir.Node, position: int) -> ir.Node | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else value.producer()
