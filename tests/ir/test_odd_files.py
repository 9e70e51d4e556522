"""Files that are legal and rare: strings, scalars, unknown fields, two spellings, functions called often."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune
from graphprune.ir.load import load
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings

RNG = np.random.default_rng(0)


def _weights(**shapes: tuple[int, ...]) -> list[TensorProto]:
    return [
        numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32), name) for name, s in shapes.items()
    ]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[TensorProto],
    **domains: int,
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(d, v) for d, v in domains.items())]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=opsets, ir_version=8
    )


def _floats(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def _mlp() -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", "W1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "W2"], ["y"]),
    ]


def test_strings_among_the_initializers_are_carried_along(tmp_path: Path) -> None:
    nodes = [
        *_mlp(),
        helper.make_node("ArgMax", ["y"], ["i"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "i"], ["label"]),
    ]
    names = helper.make_tensor("names", TensorProto.STRING, [4], [b"a", b"b", b"c", b"d"])
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING, [1]), _floats("y", 1, 4)]
    source, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(
        _model(nodes, [_floats("x", 1, 8)], outputs, [*_weights(W1=(8, 32), W2=(32, 4)), names]), source
    )
    report = graphprune.compile(source, "prune(ratio=0.5)", small).report
    assert report.after.params < report.before.params
    label = ort.InferenceSession(str(small)).run(["label"], {"x": np.ones((1, 8), np.float32)})[0]
    assert label[0] in "abcd"


def test_a_scalar_input_is_calibrated_with_one_number_per_sample(tmp_path: Path) -> None:
    nodes = [
        *_mlp()[:2],
        helper.make_node("Mul", ["b", "s"], ["c"]),
        helper.make_node("MatMul", ["c", "W2"], ["y"]),
    ]
    model = _model(
        nodes, [_floats("x", 1, 8), _floats("s")], [_floats("y", 1, 4)], _weights(W1=(8, 32), W2=(32, 4))
    )
    samples = {"x": RNG.standard_normal((32, 1, 8)).astype(np.float32), "s": np.ones(32, np.float32)}
    assert graphprune.compile(model, "obspa(ratio=0.5)", calibration=samples).report.passes[0].proof.ok


@pytest.mark.parametrize(
    ("version", "attributes"),
    [
        (1, {"classes_strings": ["a", "b", "c"]}),
        (2, {"keys_strings": ["a", "b"], "values_int64s": [0, 1], "default_int64": 0}),
    ],
)
def test_an_encoder_of_labels_keeps_the_shape(version: int, attributes: dict[str, object]) -> None:
    encode = helper.make_node("LabelEncoder", ["s"], ["i"], domain="ai.onnx.ml", **attributes)
    nodes = [encode, helper.make_node("Gather", ["E", "i"], ["x"]), *_mlp()]
    words = helper.make_tensor_value_info("s", TensorProto.STRING, ["N"])
    weights = _weights(E=(3, 16), W1=(16, 24), W2=(24, 8))
    model = _model(nodes, [words], [_floats("y", "N", 8)], weights, **{"ai.onnx.ml": version})
    free = {group.id for group in graphprune.find_groups(model) if not group.pin}
    assert free == {"E:1", "W1:1"}


def _simple() -> onnx.ModelProto:
    return _model(_mlp(), [_floats("x", 1, 8)], [_floats("y", 1, 4)], _weights(W1=(8, 32), W2=(32, 4)))


def test_fields_that_onnx_does_not_define_are_named_and_not_written_back(tmp_path: Path) -> None:
    model, field = _simple(), b"\xa2\x06\x03abc"  # field 100, three bytes
    model.graph.node[0].MergeFromString(field)
    model.graph.initializer[0].MergeFromString(field)
    source, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    source.write_bytes(model.SerializeToString() + field)
    kinds = "ModelProto 100, NodeProto 100, TensorProto 100"
    line = f"protobuf fields that onnx does not define are not written: {kinds}"
    assert graphprune.compile(source, "prune(ratio=0.5)", small).report.warnings == (line,)
    assert inspect(source, Settings()).notes == (line,)
    assert field not in small.read_bytes()


def test_two_spellings_of_the_default_operators_are_one(tmp_path: Path) -> None:
    model = _simple()
    model.opset_import.add(domain="ai.onnx", version=13)
    model.graph.node[1].domain = "ai.onnx"
    source = tmp_path / "model.onnx"
    onnx.save(model, source)
    for given in (source, model):
        made = graphprune.compile(given, "prune(ratio=0.5)").proto()
        assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 13)]
        onnx.checker.check_model(made)
    assert model.graph.node[1].domain == "ai.onnx"  # what was given is never changed


def test_a_function_called_often_is_written_out_in_time_that_its_calls_take(tmp_path: Path) -> None:
    """Two thousand calls: a search for free names from 1 up would take millions of steps."""
    body = [helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Neg", ["t"], ["u"])]
    opsets = [helper.make_opsetid("", 13)]
    count = 2000
    calls = [helper.make_node("F", [f"v{i}"], [f"v{i + 1}"], domain="loc") for i in range(count)]
    model = _model(calls, [_floats("v0", 1)], [_floats(f"v{count}", 1)], [], loc=1)
    model.functions.append(helper.make_function("loc", "F", ["x"], ["u"], body, opsets))
    source = tmp_path / "model.onnx"
    onnx.save(model, source)
    loaded = load(source).model
    start = time.process_time()
    normalise(loaded, record_of)
    assert time.process_time() - start < 5
    assert [node.op_type for node in loaded.graph] == ["Relu", "Neg"] * count
    assert not loaded.functions
