"""Initializers that are inputs as well: weights become constants, settings stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune
from graphprune.errors import DataError
from graphprune.ir.defaults import make_constant
from graphprune.ir.load import load
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings

RNG = np.random.default_rng(0)
WEIGHTS = {"W1": (16, 3, 3, 3), "b1": (16,), "W2": (8, 16, 3, 3), "V": (8, 8, 1, 1)}


def _nodes() -> list[onnx.NodeProto]:
    """Conv, Relu, scaled by a temperature, Conv, a folded Reshape of a weight, Conv."""
    shape = helper.make_tensor("s", TensorProto.INT64, [4], [8, 8, 1, 1])
    return [
        helper.make_node("Conv", ["x", "W1", "b1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "temperature"], ["c"]),
        helper.make_node("Conv", ["c", "W2"], ["d"]),
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("Reshape", ["V", "s"], ["v"]),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]


def _model(ir_version: int, plain: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A network whose initializers are all inputs but those in `plain`."""
    arrays = {name: (RNG.standard_normal(shape) * 0.2).astype(np.float32) for name, shape in WEIGHTS.items()}
    arrays["temperature"] = np.array(2, np.float32)
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    listed = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in arrays.items()
        if name not in plain
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])
    graph = helper.make_graph(_nodes(), "g", [image, *listed], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)


def _saved(folder: Path, ir_version: int, plain: tuple[str, ...] = ()) -> Path:
    path = folder / "model.onnx"
    onnx.save(_model(ir_version, plain), path)
    return path


def _inputs(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path).graph.input]


def _samples(count: int = 16) -> dict[str, np.ndarray]:
    return {"x": RNG.standard_normal((count, 1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize(("ir_version", "plain"), [(3, ()), (6, ()), (6, ("W2",))])
def test_weights_that_are_inputs_are_calibrated_cut_and_written_as_constants(
    tmp_path: Path, ir_version: int, plain: tuple[str, ...]
) -> None:
    source, small = _saved(tmp_path, ir_version, plain), tmp_path / "small.onnx"
    result = graphprune.compile(source, "obspa(ratio=0.5, align=1)", small, calibration=_samples())
    assert result.report.passes[0].proof.ok
    assert onnx.load(small).graph.initializer[0].dims[0] < 16
    settings = [] if ir_version < 4 else ["temperature"]
    assert _inputs(small) == ["x", *settings]
    onnx.checker.check_model(str(small))
    assert onnx.load(small).ir_version == max(ir_version, 4)
    count = 5 - len(plain) - len(settings)
    assert any(line.startswith(f"{count} initializers that were inputs") for line in result.report.warnings)


def test_what_is_cut_from_constants_is_cut_from_inputs(tmp_path: Path) -> None:
    plain = tuple(WEIGHTS)
    as_inputs = _model(6)
    as_constants = onnx.ModelProto()
    as_constants.CopyFrom(as_inputs)
    kept = [value for value in as_constants.graph.input if value.name not in plain]
    del as_constants.graph.input[:]
    as_constants.graph.input.extend(kept)
    one, two = (graphprune.compile(each, "prune(ratio=0.5)").proto() for each in (as_inputs, as_constants))
    assert one.SerializeToString() == two.SerializeToString()


def test_a_setting_stays_an_input_that_works(tmp_path: Path) -> None:
    source, small = _saved(tmp_path, 6), tmp_path / "small.onnx"
    report = graphprune.compile(source, "prune(ratio=0.5)", small).report
    assert any("inputs with a default stay: 'temperature'" in line for line in report.warnings)
    session = ort.InferenceSession(str(small), providers=["CPUExecutionProvider"])
    x = _samples(1)["x"][0]
    doubled = session.run(None, {"x": x, "temperature": np.array(4, np.float32)})[0]
    # Everything behind the temperature is linear here, and the Relu stands before it.
    np.testing.assert_allclose(doubled, 2 * session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_a_threshold_of_one_element_with_an_axis_stays_and_a_bias_of_one_element_does_not() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["n"]),
        helper.make_node("Cast", ["n"], ["m"], to=1),
        helper.make_node("ReduceSum", ["m"], ["s"], keepdims=0),
        helper.make_node("Add", ["b", "s"], ["y"]),
    ]
    arrays = {
        "W": np.ones((4, 1), np.float32),
        "bias": np.ones(1, np.float32),
        "most": np.array([3], np.int64),
        "iou": np.array([0.5], np.float32),
        "boxes": np.zeros((1, 2, 4), np.float32),
        "scores": np.ones((1, 1, 2), np.float32),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    listed = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in tensors
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph(nodes, "g", [x, *listed], [y], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert make_constant(load(proto).model).settings == ("most", "iou")


def test_the_flag_keeps_them_inputs_where_they_are_left(tmp_path: Path) -> None:
    source, small = _saved(tmp_path, 3), tmp_path / "small.onnx"
    graphprune.compile(source, "prune(ratio=0.5)", small, keep_initializer_inputs=True)
    model = onnx.load(small)
    left = [tensor.name for tensor in model.graph.initializer if tensor.name != "v"]  # V was folded
    assert sorted(_inputs(small)) == sorted(["x", *left])
    assert model.ir_version == 4
    onnx.checker.check_model(str(small))


def test_an_empty_pipeline_copies_and_inspect_and_bench_count_alike(tmp_path: Path) -> None:
    from graphprune.pipeline.inspection import inspect
    from graphprune.pipeline.settings import Settings

    source, copy = _saved(tmp_path, 3), tmp_path / "copy.onnx"
    graphprune.compile(source, "", copy)
    assert copy.read_bytes() == source.read_bytes()
    counted = inspect(source, Settings())
    assert counted.size.params == graphprune.bench([source]).models[0].size.params
    assert counted.ir_version == 3


@pytest.mark.parametrize(("ir_version", "plain"), [(3, ()), (6, ()), (6, ("W2",))])
@pytest.mark.parametrize("keep", [False, True])
def test_samples_may_repeat_weights(
    tmp_path: Path, ir_version: int, plain: tuple[str, ...], keep: bool
) -> None:
    source, samples = _saved(tmp_path, ir_version, plain), _samples()
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(source).graph.initializer}
    made = [
        graphprune.compile(
            source,
            "obspa(ratio=0.5, align=1)",
            calibration=given,
            inputs=given,
            keep_initializer_inputs=keep,
        )
        for given in (samples, samples | weights)
    ]
    assert made[0].proto() == made[1].proto()
    with pytest.raises(DataError, match="'W1' is not what the model itself holds under this name"):
        graphprune.compile(source, "obspa(ratio=0.5)", calibration=samples | {"W1": weights["W1"] + 1})


def test_every_command_takes_samples_that_repeat_weights(tmp_path: Path) -> None:
    source, small = _saved(tmp_path, 6), tmp_path / "small.onnx"
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(source).graph.initializer}
    given = _samples(4) | weights
    graphprune.compile(source, "prune(ratio=0.5)", small, keep_initializer_inputs=True)
    assert graphprune.validate(source, source, inputs=given).ok
    assert not graphprune.validate(source, small, inputs=given).ok
    assert graphprune.bench([source, small], inputs=given).models[1].size.params < 4000
    assert set(graphprune.calibrate(source, given, samples=2).arrays) == {"x", "temperature"}
    assert inspect(source, Settings(), inputs=given).size.params == sum(
        array.size for array in weights.values()
    )
    with pytest.raises(DataError, match="'V' is not what the model itself holds"):
        graphprune.bench([source], inputs=given | {"V": weights["V"] * 2})
