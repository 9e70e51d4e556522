"""What dynamic quantisation writes behind a product of integers: a Cast, and the scales of both factors."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.domains import is_default
from graphprune.labels.stored import is_stored


@dataclass(frozen=True, eq=False)
class Scaled:
    """A product of integers that becomes floats.

    Attributes:
        scale: of the weight, a constant.
        result: what the product stands for.
    """

    scale: ir.Value
    result: ir.Value


def scaled(node: ir.Node) -> Scaled | None:
    """Cast(product) * (scale of x * scale of W), where nothing else reads the product; else None."""
    cast = _only_reader(node.outputs[0], "Cast")
    product = None if cast is None else _only_reader(cast.outputs[0], "Mul")
    if cast is None or product is None:
        return None
    other = next((v for v in product.inputs if v is not cast.outputs[0]), None)
    maker = None if other is None else other.producer()
    if maker is None or maker.op_type != "Mul":
        return None
    for one, two in (maker.inputs, reversed(maker.inputs)):
        if before_codes(one) is not None and two is not None:
            return Scaled(two, product.outputs[0]) if is_stored(two) else None
    return None


def before_codes(value: ir.Value | None) -> ir.Value | None:
    """What a value was before it was quantised by its own range; None where it was not."""
    maker = None if value is None else value.producer()
    return maker.inputs[0] if maker is not None and maker.op_type == "DynamicQuantizeLinear" else None


def _only_reader(value: ir.Value, operator: str) -> ir.Node | None:
    readers = [node for node, _ in value.uses()]
    if len(readers) != 1 or value.is_graph_output() or readers[0].op_type != operator:
        return None
    return readers[0] if is_default(readers[0].domain) else None
