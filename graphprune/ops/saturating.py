"""Operators that multiply bytes, and which of these a CPU may saturate (`graphprune.runtime.exact`)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.nodes import operator_of


@dataclass(frozen=True)
class Factor:
    """Positions, among a node's inputs, of bytes that meet unsigned ones in a product.

    Attributes:
        value: of the bytes.
        zero: of their zero point.
        scale: of their scale, whose shape a missing zero point has; -1 where it would be one number.
        other: of the other factor's zero point; where that one is signed, too, the product is exact as it is.
    """

    value: int
    zero: int
    scale: int = -1
    other: int = -1


QLINEAR = (Factor(3, 5, 4, other=2),)
DEQUANTIZE = (Factor(0, 2, 1),)
"""ONNX Runtime fuses DequantizeLinear, product and QuantizeLinear into one operator with bytes."""
PRODUCTS: dict[str, tuple[Factor, ...]] = {
    "MatMulInteger": (Factor(1, 3),),
    # The kernel computes W * X, so the signed factor that saturates is X.
    "ConvInteger": (Factor(0, 2), Factor(1, 3)),
    "QLinearConv": QLINEAR,
    "com.microsoft:QLinearConv": QLINEAR,
    "QLinearMatMul": QLINEAR,
    "com.microsoft:QGemm": QLINEAR,
    "com.microsoft:MatMulIntegerToFloat": (Factor(1, 5, 3, other=4),),
    "com.microsoft:DynamicQuantizeMatMul": (Factor(1, 3, 2),),
    "com.microsoft:DynamicQuantizeLSTM": (Factor(1, 9, 8), Factor(2, 11, 10)),
    "com.microsoft:QAttention": (Factor(1, 7, 4, other=6),),
    "DequantizeLinear": DEQUANTIZE,
    "com.microsoft:DequantizeLinear": DEQUANTIZE,
}
BLOCKWISE = frozenset({"com.microsoft:MatMulNBits", "com.microsoft:QMoE"})
"""With accuracy_level=4 these round activations to bytes, on CPUs that have a kernel for it."""


def factors_of(node: ir.Node) -> tuple[Factor, ...]:
    """The bytes that a node multiplies, none where it multiplies none."""
    return PRODUCTS.get(operator_of(node), ())


def rounds(node: ir.Node) -> bool:
    """Whether a node may round what it multiplies to bytes."""
    return operator_of(node) in BLOCKWISE and "accuracy_level" in node.attributes
