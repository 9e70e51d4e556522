"""What is left of a removed expert's part behind each operator that reads it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphprune.ir.shapes import Sizes
from graphprune.labels.structures import Effect
from graphprune.ops.forms.effects import effect_on

ZERO: dict[str, Effect | None] = {
    "Relu": "zero", "Gelu": "zero", "Swish": "zero", "Erf": "zero", "Tanh": "zero", "Cast": "zero",
    "Flatten": "zero", "ReduceL2": "zero", "Sigmoid": None, "Softplus": None, "Exp": None, "Softmax": None,
    "NonZero": "empty",
}  # fmt: skip
ROWS: dict[str, Effect | None] = {
    "Relu": "empty", "Softmax": "empty", "LayerNormalization": "empty", "Transpose": "empty",
    "SimplifiedLayerNormalization": "empty", "ReduceSum": None, "TopK": None,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "expected"), [("zero", ZERO), ("empty", ROWS)])
def test_zeros_and_missing_rows_are_followed(kind: Effect, expected: dict[str, Effect | None]) -> None:
    value = ir.Value(name="x")
    found = {op: effect_on(ir.node(op, [value]), {0: kind}, Sizes()) for op in expected}
    assert found == expected


def test_an_operator_of_another_domain_ends_it() -> None:
    assert effect_on(ir.node("Relu", [ir.Value(name="x")], domain="my.own"), {0: "zero"}, Sizes()) is None
