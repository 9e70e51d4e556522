"""Constants of a file become initializers on the way in, and nothing else about the model changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphprune.ir.load import load
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of


def _constant(name: str, size: int = 4) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.arange(size, dtype=np.float32), "whatever")
    return helper.make_node("Constant", [], [name], value=tensor)


def _saved(
    path: Path, nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), ir_version: int = 8
) -> Path:
    """x + a + b + ..., with one initializer w, all of 4 elements unless the nodes say otherwise."""

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    graph = helper.make_graph(nodes, "g", [value("x")], [value(name) for name in outputs], [weight])
    if ir_version < 4:
        graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)
    onnx.save(model, path)
    return path


def _sum(*names: str) -> onnx.NodeProto:
    return helper.make_node("Sum", ["x", "w", *names], ["y"])


def test_a_lifted_model_is_what_normalising_makes_of_it(tmp_path: Path) -> None:
    big = 4096  # bytes beyond what stays inline
    path = _saved(
        tmp_path / "m.onnx",
        [
            _constant("a"),
            _constant("b", big),
            _constant("c"),
            _sum("a", "c"),
            helper.make_node("Identity", ["b"], ["z"]),
        ],
        ("y", "z"),
    )
    lifted, plain = load(path, lift=True).model, load(path).model
    assert [node.op_type for node in lifted.graph] == ["Sum", "Identity"]
    normalise(plain, record_of)
    assert list(lifted.graph.initializers) == list(plain.graph.initializers) == ["w", "a", "b", "c"]
    for name, value in plain.graph.initializers.items():
        found = lifted.graph.initializers[name].const_value
        assert found is not None and value.const_value is not None
        np.testing.assert_array_equal(found.numpy(), value.const_value.numpy())


def test_a_constant_that_is_a_graph_output_stays(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx", [_constant("a"), _constant("b"), _sum("b")], ("y", "a"))
    model = load(path, lift=True).model
    assert [node.outputs[0].name for node in model.graph] == ["a", "y"]


def test_order_holds_where_a_constant_has_another_form(tmp_path: Path) -> None:
    floats = helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, 4.0])
    path = _saved(tmp_path / "m.onnx", [_constant("a"), floats, _constant("c"), _sum("a", "b", "c")])
    model = load(path, lift=True).model
    assert list(model.graph.initializers) == ["w", "a"]
    normalise(model, record_of)
    assert list(model.graph.initializers) == ["w", "a", "b", "c"]


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_that_have_to_be_inputs_are_not_made(tmp_path: Path, ir_version: int) -> None:
    path = _saved(tmp_path / "m.onnx", [_constant("a"), _sum("a")], ir_version=ir_version)
    kinds = [node.op_type for node in load(path, lift=True).model.graph]
    assert ("Constant" in kinds) == (ir_version < 4)


def test_a_constant_that_says_more_than_a_tensor_is_still_refused(tmp_path: Path) -> None:
    from graphprune.errors import ModelError

    wrong = _constant("a")
    wrong.attribute.append(helper.make_attribute("value_float", 1.0))
    with pytest.raises(ModelError):
        load(_saved(tmp_path / "m.onnx", [wrong, _sum("a")]), lift=True)
