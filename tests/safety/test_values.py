"""Values that break arithmetic, and runs that do not end: what docs/security.md says happens."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune
from graphprune.errors import ModelError
from tests.ir.hostile_cases import cnn, floats, model, tensor, weight
from tests.safety.conftest import PRUNE, Run, names

make = helper.make_node


def with_weights(name: str, value: float, *, everywhere: bool = True) -> onnx.ModelProto:
    """The CNN with one weight filled, or with one of its elements set."""
    proto = cnn()
    found = weight(proto, name)
    array = numpy_helper.to_array(found).copy()
    array.reshape(-1)[slice(None) if everywhere else slice(0, 1)] = value
    found.CopyFrom(numpy_helper.from_array(array, name))
    return proto


def batch_normalised(variance: float) -> onnx.ModelProto:
    """Conv, BatchNormalization, Conv."""
    nodes = [
        make("Conv", ["x", "w1"], ["c1"], "conv1", kernel_shape=[1, 1]),
        make("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n"], "norm"),
        make("Relu", ["n"], ["r"], "relu"),
        make("Conv", ["r", "w2"], ["y"], "conv2", kernel_shape=[1, 1]),
    ]
    weights = [
        tensor("w1", 8, 3, 1, 1),
        tensor("w2", 4, 8, 1, 1),
        tensor("b", 8),
        tensor("m", 8),
        tensor("s", 8),
    ]
    weights.append(numpy_helper.from_array(np.full(8, variance, np.float32), "v"))
    return model(helper.make_graph(nodes, "g", [floats("x", 1, 3, 4, 4)], [floats("y", 1, 4, 4, 4)], weights))


def endless() -> onnx.ModelProto:
    """Two matrix products that can be cut, and a loop of 2^62 turns behind them."""
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("ci", "co")]
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    turn = [make("Identity", ["ci"], ["co"]), make("Relu", ["a"], ["b"])]
    body = helper.make_graph(turn, "body", [step, flags[0], floats("a", 2, 4)], [flags[1], floats("b", 2, 4)])
    nodes = [
        make("MatMul", ["x", "w1"], ["t"]),
        make("Relu", ["t"], ["u"]),
        make("MatMul", ["u", "w2"], ["v"]),
        make("Loop", ["n", "go", "v"], ["y"], body=body),
    ]
    weights = [tensor("w1", 8, 16), tensor("w2", 16, 4), numpy_helper.from_array(np.array(2**62), "n")]
    weights.append(numpy_helper.from_array(np.array(True), "go"))
    return model(helper.make_graph(nodes, "g", [floats("x", 2, 8)], [floats("y", 2, 4)], weights))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_weights_that_are_not_finite_are_not_ranked(
    value: float, everywhere: bool, folder: Path, run: Run
) -> None:
    onnx.save(with_weights("w2", value, everywhere=everywhere), folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "out.onnx")
    assert outcome.code == 2 and len(outcome.errors) == 1
    assert "not all finite" in outcome.err and "w2" in outcome.err
    assert names(folder) == {"in.onnx"}
    assert run("inspect", "in.onnx").code == 0


def test_outputs_that_are_nan_prove_nothing(folder: Path, run: Run) -> None:
    onnx.save(with_weights("b3", np.nan), folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "out.onnx")
    assert outcome.code == 1 and len(outcome.errors) == 1
    assert outcome.err.startswith("error: nothing can be proved") and "NaN" in outcome.err
    assert "bug" not in outcome.err
    assert names(folder) == {"in.onnx"}
    assert run("validate", "in.onnx", "in.onnx").code == 1, "NaN equals nothing, not even itself"


def test_a_negative_variance_is_never_a_success(folder: Path, run: Run) -> None:
    onnx.save(batch_normalised(1.0), folder / "in.onnx")
    assert run("compile", "in.onnx", *PRUNE, "-o", "out.onnx").code == 0
    onnx.save(batch_normalised(-1.0), folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "bad.onnx")
    assert outcome.code == 2 and len(outcome.errors) == 1 and "negative variance" in outcome.err
    assert not (folder / "bad.onnx").exists()
    assert run("validate", "in.onnx", "in.onnx").code == 1


def test_weights_of_zero_tie_and_are_proved(folder: Path, run: Run) -> None:
    onnx.save(with_weights("w1", 0.0), folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--format", "json")
    assert outcome.code == 0 and '"ok": true' in outcome.out


def test_a_constant_output_proves_nothing(folder: Path, run: Run) -> None:
    proto = with_weights("w3", 0.0)
    weight(proto, "b3").CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), "b3"))
    onnx.save(proto, folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "out.onnx")
    assert outcome.code == 1 and "constant output" in outcome.err and "bug" not in outcome.err
    assert names(folder) == {"in.onnx"}


def test_a_cut_that_leaves_a_constant_output_is_no_bug(folder: Path, run: Run) -> None:
    """All but one Unit are ignored by the output, and that one goes first."""
    first, second = np.ones((8, 16), np.float32), np.zeros((16, 4), np.float32)
    first[:, 0], second[0] = 0.01, 1
    nodes = [
        make("MatMul", ["x", "w1"], ["t"]),
        make("Relu", ["t"], ["u"]),
        make("MatMul", ["u", "w2"], ["y"]),
    ]
    weights = [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")]
    graph = helper.make_graph(nodes, "g", [floats("x", 2, 8)], [floats("y", 2, 4)], weights)
    onnx.save(model(graph), folder / "in.onnx")
    outcome = run("compile", "in.onnx", *PRUNE, "-o", "out.onnx")
    assert outcome.code == 1 and len(outcome.errors) == 1 and "bug" not in outcome.err
    assert "after this cut" in outcome.err and "smaller ratio" in outcome.err
    assert names(folder) == {"in.onnx"}


def test_huge_weights_are_proved_on_small_inputs(folder: Path, run: Run) -> None:
    proto = cnn()
    array = numpy_helper.to_array(weight(proto, "w1")) * 1e37
    weight(proto, "w1").CopyFrom(numpy_helper.from_array(array.astype(np.float32), "w1"))
    onnx.save(proto, folder / "in.onnx")
    assert run("compile", "in.onnx", *PRUNE, "-o", "out.onnx").code == 0


@pytest.mark.parametrize("command", ["compile", "validate", "bench"])
def test_an_endless_loop_is_stopped(command: str, folder: Path, run: Run) -> None:
    onnx.save(endless(), folder / "in.onnx")
    arguments = {"compile": [*PRUNE, "-o", "out.onnx"], "validate": ["in.onnx"]}.get(command, [])
    start = time.monotonic()
    outcome = run(command, "in.onnx", *arguments, "--timeout", "0.5")
    assert time.monotonic() - start < 30
    assert outcome.code == 2 and len(outcome.errors) == 1
    assert "still running after 0.5" in outcome.err and "--timeout" in outcome.err
    assert names(folder) == {"in.onnx"}


def test_the_limit_holds_for_calibration(folder: Path) -> None:
    samples = {"x": np.ones((2, 8), np.float32)}
    with pytest.raises(ModelError, match="still running"):
        graphprune.compile(endless(), "prune(criterion=bn-scale)", calibration=samples, timeout=0.5)


def test_the_limit_holds_in_the_library_and_where_inputs_are_given(folder: Path) -> None:
    given = {"x": np.ones((2, 8), np.float32)}
    for inputs in (None, given):
        with pytest.raises(ModelError, match="still running"):
            graphprune.compile(endless(), "prune(ratio=0.5)", inputs=inputs, timeout=0.5)
