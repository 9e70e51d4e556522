"""Sizes that operators need to be equal: what a weight says about the data that meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx_ir as ir

from graphprune.ir.learned import Size
from graphprune.ir.weights import operator

Shape = tuple[Size, ...]
Pairs = Iterator[tuple[Size, Size]]
Rule = Callable[[ir.Node, Sequence[Shape]], Pairs]


def equal_sizes(node: ir.Node, shapes: Sequence[Shape | None]) -> list[tuple[Size, Size]]:
    """Pairs of sizes that must be equal for the node to run; none where a shape or the rule is not known."""
    rule = RULES.get(operator(node))
    if rule is None:
        return []
    try:
        return list(rule(node, [() if shape is None else shape for shape in shapes]))
    except IndexError:
        return []


def _product(a: int, b: int) -> Rule:
    """The summed axis of a matrix product."""

    def rule(node: ir.Node, shapes: Sequence[Shape]) -> Pairs:
        left = shapes[a][-2 if _flag(node, "transA") else -1]
        across = _flag(node, "transB")
        yield left, shapes[b][-1 if across or len(shapes[b]) == 1 else -2]

    return rule


def _convolution(x: int, weight: int) -> Rule:
    """Channels of the data: those of the weight, once per group."""

    def rule(node: ir.Node, shapes: Sequence[Shape]) -> Pairs:
        groups = _int(node, "group", 1)
        one, two = shapes[weight][1]
        yield shapes[x][1], (one * groups, two * groups)

    return rule


def _axis(axis: int, weight: int, of_weight: int) -> Rule:
    """One axis of the data is as long as one of a weight."""

    def rule(node: ir.Node, shapes: Sequence[Shape]) -> Pairs:
        yield shapes[0][axis], shapes[weight][of_weight]

    return rule


def _scaled(node: ir.Node, shapes: Sequence[Shape]) -> Pairs:
    """A normalisation over the last axis, whose scale may be broadcast."""
    if shapes[1][-1] != (1, 1):
        yield shapes[0][-1], shapes[1][-1]


def _attribute(name: str) -> Rule:
    def rule(node: ir.Node, shapes: Sequence[Shape]) -> Pairs:
        yield shapes[0][-1], (_int(node, name, 0),) * 2

    return rule


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _flag(node: ir.Node, name: str) -> bool:
    return _int(node, name, 0) == 1


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        [
            "MatMul",
            "Gemm",
            "MatMulInteger",
            "com.microsoft:DynamicQuantizeMatMul",
            "com.microsoft:MatMulIntegerToFloat",
            "com.microsoft:FusedMatMul",
            "com.microsoft:FusedGemm",
        ],
        _product(0, 1),
    ),
    "QLinearMatMul": _product(0, 3),
    "com.microsoft:QGemm": _product(0, 3),
    **dict.fromkeys(["Conv", "ConvInteger", "com.microsoft:FusedConv"], _convolution(0, 1)),
    "QLinearConv": _convolution(0, 3),
    "ConvTranspose": _axis(1, 1, 0),
    "BatchNormalization": _axis(1, 1, 0),
    "InstanceNormalization": _axis(1, 1, 0),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], _axis(2, 1, 2)),
    **dict.fromkeys(["com.microsoft:Attention", "com.microsoft:QAttention"], _axis(2, 1, 0)),
    **dict.fromkeys(
        ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"],
        _scaled,
    ),
    **dict.fromkeys(["com.microsoft:MatMulNBits", "com.microsoft:MatMulBnb4"], _attribute("K")),
}
"""By operator, with its domain: Attention of ai.onnx reads no weight. Where a weight is quantised it is its
integers that say the size."""
