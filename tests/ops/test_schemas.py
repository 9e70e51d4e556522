"""Where weights, biases, scales and zero points are, against the names in the schemas of their operators."""

from __future__ import annotations

import re

import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as runtime
import pytest

from graphprune.ops import BY_OP
from graphprune.ops.record import Record

RUNTIME = {
    (schema.domain, schema.name): [each.name for each in schema.inputs]
    for schema in runtime.get_all_operator_schema()
}
WEIGHTS, BIASES = ("w", "weight", "weights", "b"), ("bias", "c", "b")
PARAMETER = re.compile(r"scale|zero_point|shape|absmax|ind[ei]|mask|ids|lens|past|router|condition|g_idx")
"""What no data are called."""
LAYERS = {op: row for op, row in BY_OP.items() if row.layer is not None}
HELD = {op: row for op, row in BY_OP.items() if row.held}


def names(op: str) -> list[str]:
    domain, _, name = op.rpartition(":")
    known = RUNTIME.get((domain, name))
    inputs = known or [each.name for each in onnx.defs.get_schema(name, domain=domain).inputs]
    return [each.lower() for each in inputs]


@pytest.mark.parametrize(("op", "row"), LAYERS.items(), ids=LAYERS)
def test_the_weight_and_the_bias_are_what_the_schema_calls_so(op: str, row: Record) -> None:
    inputs, layer = names(op), row.layer
    assert layer is not None
    assert layer.weight == next(inputs.index(name) for name in WEIGHTS if name in inputs)
    rest = [inputs.index(name) for name in BIASES if name in inputs[layer.weight + 1 :]]
    assert layer.bias == (rest[0] if rest else None)


@pytest.mark.parametrize(("op", "row"), HELD.items(), ids=HELD)
def test_data_are_all_inputs_but_scales_zero_points_and_indices(op: str, row: Record) -> None:
    data = [position for position, name in enumerate(names(op)) if not PARAMETER.search(name)]
    assert sorted(each.position for each in row.held) == data


@pytest.mark.parametrize(("op", "row"), HELD.items(), ids=HELD)
def test_a_scale_and_a_zero_point_are_called_after_their_data(op: str, row: Record) -> None:
    inputs, x = names(op), names(op)[0]
    for each in row.held:
        own = inputs[each.position]
        scales = [inputs[at] for at in each.scales or ()]
        if each.bits is not None and scales:
            assert (scales, each.zero) == (["scales"], inputs.index("zero_points"))
        elif row.layer is not None and each.position == row.layer.bias and scales:
            assert scales == [f"{x}_scale", f"{inputs[row.layer.weight]}_scale"]
        elif each.scales is not None:
            assert scales in ([], [f"{own}_scale"])
            assert bool(scales) == (f"{own}_scale" in inputs)
            assert each.zero == inputs.index(f"{own}_zero_point")
