"""Gradients of every operator against finite differences in double precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ops import BY_OP
from tests.ops.exotic_graphs import Case
from tests.ops.torch import test_families as families
from tests.ops.torch import test_standard as standard
from tests.ops.torch.slopes import slopes_agree
from tests.ops.torch.test_opsets import FORMS, Form

pytestmark = pytest.mark.zoo

STRAIGHT = ("Quantize", "QLinear", "Integer", "QGemm", "QAttention", "Cast", "BitCast")
"""Parts of the names of operators whose gradient passes straight through rounding, as no difference does."""
CASES = [case for table in families.TABLES for case in table if case.runs]


def straight(model: ir.Model) -> bool:
    names = {node.op_type for node in model.graph}
    return any(part in name for name in names for part in STRAIGHT if name != "DequantizeLinear")


@pytest.mark.parametrize("form", [form for form in FORMS if not straight(form.model())], ids=str)
def test_of_every_form(form: Form) -> None:
    slopes_agree(form.model(), {name: smooth(array, 0) for name, array in form.feeds.items()})


@pytest.mark.parametrize("case", [case for case in CASES if not straight(case.model())], ids=lambda c: c.name)
def test_of_graphs_of_every_family(case: Case) -> None:
    assert slopes_agree(case.model(), case.feeds)


def smooth(array: np.ndarray, seed: int) -> np.ndarray:
    """Away from ties and kinks."""
    if array.dtype.kind != "f":
        return array
    return array.astype(np.float64) + np.random.default_rng(seed).uniform(0.001, 0.004, array.shape)


@pytest.mark.parametrize("operator", sorted(op for op in BY_OP if ":" not in op))
def test_of_every_standard_operator(operator: str) -> None:
    from graphprune.ops.torch import TABLE

    if operator not in TABLE or operator in standard.RANDOM or any(part in operator for part in STRAIGHT):
        pytest.skip("not here")
    for case in standard.cases()[operator][:4]:
        feeds = standard.feeds_of(case)
        plain = all(isinstance(array, np.ndarray) for array in feeds.values())
        if plain and case.name not in standard.REFUSED:
            given = {name: smooth(array, at) for at, (name, array) in enumerate(feeds.items())}
            slopes_agree(ir.from_proto(case.model), given)
