"""A record says where a weight is, as its own label rule does; one that lacks what it claims is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes.analyse import analyse
from graphprune.ir.operators import Sized
from graphprune.ir.shapes import infer
from graphprune.labels.options import Options
from graphprune.labels.state import Use
from graphprune.ops import BY_OP, TABLE, record_of
from graphprune.ops.record import Record, held
from tests.ops.test_macs import CASES, MS, Case

LAYERS = [
    next(c for c in CASES if c.op == op and not {"group", "transB"} & c.attributes.keys())
    for op, row in BY_OP.items()
    if row.layer is not None and row.exactness == "contraction" and op != f"{MS}:QLinearConv"
]


def stored(case: Case, *positions: int) -> ir.Model:
    """The node of a case with some of its inputs stored."""
    model = case.model()
    node = model.graph[0]
    for position in positions:
        value = node.inputs[position]
        if value is None or value.shape is None or value.dtype is None:
            continue
        shape = tuple(int(size) for size in value.shape)
        value.const_value = ir.Tensor(np.zeros(shape, value.dtype.numpy()), name=value.name)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.op)
def test_the_axes_of_a_weight_are_those_that_its_label_rule_calls_source_and_sink(case: Case) -> None:
    layer = BY_OP[case.op].layer
    assert layer is not None
    model = stored(case, *range(1, len(case.inputs)))
    roles, node = analyse(model, Options()).state.roles, model.graph[0]
    use, rank = Use(node, layer.weight), len(case.inputs[layer.weight] or ())
    assert roles[(use, layer.columns % rank)] == "sink"
    # the rule of a quantised recurrent net keeps its gates as they are
    assert roles[(use, layer.rows % rank)] == ("table" if case.op.endswith("QuantizeLSTM") else "source")
    if layer.bias is not None and layer.bias < len(node.inputs) and node.inputs[layer.bias] is not None:
        assert {role for (where, _), role in roles.items() if where == Use(node, layer.bias)} == {"bias"}


@pytest.mark.parametrize(
    ("op", "lost", "why"),
    [
        ("Conv", {"macs": None}, "counts no multiply-adds"),
        ("Conv", {"layer": None}, "does not say where that is"),
        ("LSTM", {"layer": None}, "does not say where that is"),
        ("MatMulInteger", {"traits": frozenset(), "layer": None}, "does not say where that is"),
        ("QLinearConv", {"held": held(0, 1)}, "not in its weight"),
    ],
)
def test_a_record_that_lacks_what_it_is_made_of_is_none(op: str, lost: dict[str, object], why: str) -> None:
    with pytest.raises(TypeError, match=f"the row of .*{op}.*{why}"):
        replace(BY_OP[op], **lost)  # type: ignore[arg-type]


def test_every_operator_on_codes_says_which_of_its_inputs_are_data() -> None:
    for row in TABLE:
        positions = [each.position for each in row.held]
        parameters = {at for each in row.held for at in (*(each.scales or ()), each.zero) if at is not None}
        assert len(set(positions)) == len(positions) and not parameters & set(positions), row.ops


def test_a_record_prints_as_what_it_says() -> None:
    assert str(BY_OP["QLinearConv"]).splitlines() == [
        "QLinearConv com.microsoft:QLinearConv",
        "  rule       as Conv; w_scale = w_zero_point = W.0",
        "  exactness  contraction",
        "  edits      W, scale, zero point, bias, `group`",
        "  weight     W 3: rows 0, columns 1; b 8",
        "  data       0, 3, 8",
        "  traits     convolution, codes",
    ]
    assert (
        "0x" not in repr(BY_OP["Gemm"]) and str(BY_OP["Gemm"].layer) == "W 0 or 1: rows -1, columns -2; b 2"
    )


def test_records_are_values() -> None:
    row = BY_OP["Relu"]
    assert isinstance(row, Record) and replace(row) == row and replace(row, labels="x") != row


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.op)
def test_what_a_weight_contracts_says_how_long_the_data_are(case: Case) -> None:
    row, model = BY_OP[case.op], case.model()
    assert row.alike is not None
    at = Sized(model.graph[0], infer(model, record_of).shapes, {})
    pairs = list(row.alike(at))
    assert len(pairs) == 1 and pairs[0][0] == pairs[0][1] and pairs[0][0] in at.input(0)
