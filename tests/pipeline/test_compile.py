"""The driver: what is promised is checked, and nothing is written when it does not hold."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graphprune
import graphprune.prune.rewrite as rewriter
from graphprune.axes import Analysis
from graphprune.errors import ArgumentError, DataError, OutputError, PromiseError
from graphprune.pipeline.passes import Context, Pass
from graphprune.prune.plan import Plan

from .conftest import Checkpoint, Half, mlp


def array(model: ir.Model | Path, name: str) -> np.ndarray:
    loaded = ir.load(model) if isinstance(model, Path) else model
    tensor = loaded.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_a_compile_is_proved_saved_and_reported(model: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(model.read_bytes()).digest()
    result = graphprune.compile(model, Half(), tmp_path / "small.onnx")
    assert hashlib.sha256(model.read_bytes()).digest() == before
    (step,) = result.report.passes
    assert step.proof.ok and step.proof.error <= step.proof.tolerance
    assert {(g.id, g.width, g.kept) for g in step.groups if not g.pin} == {
        ("w1:1", 8, 4),
        ("w2:1", 12, 6),
        ("w3:1", 16, 8),
    }
    np.testing.assert_array_equal(array(tmp_path / "small.onnx", "w2"), array(model, "w2")[:4, :6])
    assert result.report.before.params == 6 * 8 + 8 * 12 + 12 * 16 + 16 * 4
    assert result.report.after.params == 6 * 4 + 4 * 6 + 6 * 8 + 8 * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "small.onnx", "small.plan.json"]


def test_models_from_memory_stay_as_they_are(model: Path) -> None:
    memory = ir.load(model)
    for given in (memory, ir.to_proto(memory)):
        result = graphprune.compile(given, Half())
        assert array(result.model, "w1").shape == (6, 4)
        assert result.proto().graph.node[0].op_type == "MatMul"
    assert array(memory, "w1").shape == (6, 8)


def test_an_empty_pipeline_copies_the_bytes(model: Path, tmp_path: Path) -> None:
    graphprune.compile(model, "", tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == model.read_bytes()


@pytest.fixture
def broken_rewriter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewriter that spoils w3 whenever it cuts the group w2:1."""
    honest = rewriter.rewrite

    def spoil(model: ir.Model, analysis: Analysis, plan: Plan) -> ir.Model:
        result = honest(model, analysis, plan)
        if "w2:1" in plan.cuts:
            value = result.graph.initializers["w3"]
            value.const_value = ir.tensor(array(result, "w3")[::-1].copy(), name="w3")
        return result

    monkeypatch.setattr(rewriter, "rewrite", spoil)


@pytest.mark.usefixtures("broken_rewriter")
def test_a_failed_proof_names_the_group_and_writes_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PromiseError) as caught:
        graphprune.compile(model, Half(), tmp_path / "small.onnx", reproducer=tmp_path / "repro")
    assert caught.value.exit_code == 1
    assert caught.value.groups == ("w2:1",)  # type: ignore[attr-defined]
    assert "w2:1" in caught.value.message
    assert not (tmp_path / "small.onnx").exists() and not (tmp_path / "small.plan.json").exists()
    recipe = (tmp_path / "repro" / "recipe.toml").read_text()
    assert 'pipeline = "half"' in recipe.splitlines()
    plan = json.loads((tmp_path / "repro" / "plan.json").read_text())
    assert plan["groups"]["w2:1"]["kept"] == [0, 1, 2, 3, 4, 5]


@dataclass(frozen=True)
class Scale(Pass):
    """Claims to change nothing, and multiplies w1."""

    name: ClassVar[str] = "scale"
    factor: float = 2.0

    def transform(self, model: ir.Model, context: Context) -> ir.Model:
        value = model.graph.initializers["w1"]
        value.const_value = ir.tensor(array(model, "w1") * np.float32(self.factor), name="w1")
        return model


@dataclass(frozen=True)
class Break(Pass):
    """Leaves a model that is none."""

    name: ClassVar[str] = "break"

    def transform(self, model: ir.Model, context: Context) -> ir.Model:
        model.graph.initializers["w1"].const_value = ir.tensor(np.zeros((5, 5), np.float32), name="w1")
        return model


def test_a_transform_is_held_to_its_claim(model: Path, tmp_path: Path) -> None:
    assert graphprune.compile(model, Scale(1.0)).report.passes[0].proof.ok
    for item, what in ((Scale(), "changed the function"), (Break(), "left an invalid model")):
        with pytest.raises(PromiseError, match=what):
            graphprune.compile(model, item, tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()


def test_passes_run_in_order_on_each_others_result(model: Path) -> None:
    result = graphprune.compile(model, [Half(), Half()])
    assert array(result.model, "w3").shape == (3, 4)
    assert [len(plan.cuts["w1:1"]) for plan in result.plans] == [4, 2]


def test_a_plan_replays_on_another_checkpoint(model: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    graphprune.compile(model, Half(), tmp_path / "small.onnx")
    plan = tmp_path / "small.plan.json"
    graphprune.compile(model, plan=plan, output=tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()
    other = checkpoint(1)
    result = graphprune.compile(other, plan=plan)
    np.testing.assert_array_equal(array(result.model, "w1"), array(other, "w1")[:, :4])
    assert result.report.pipeline == "half"


def test_a_plan_does_not_fit_another_graph(model: Path, tmp_path: Path) -> None:
    plan = graphprune.compile(model, Half()).plan_file
    other = mlp()
    other.graph.node(1).op_type = "Sigmoid"
    with pytest.raises(PromiseError, match="another graph"):
        graphprune.compile(other, plan=plan)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "graphprune-plan", "version": 99}'])
def test_files_that_are_no_plans(text: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ArgumentError):
        graphprune.compile(model, plan=tmp_path / "bad.json")


def test_damaged_plans_are_refused(model: Path, tmp_path: Path) -> None:
    content = graphprune.compile(model, Half()).plan_file.to_json()
    for key in ("passes", "pipeline", "structure"):
        damaged = {name: value for name, value in content.items() if name != key}
        (tmp_path / "bad.json").write_text(json.dumps(damaged))
        with pytest.raises(ArgumentError, match="damaged"):
            graphprune.compile(model, plan=tmp_path / "bad.json")
    content["passes"][0]["plan"]["groups"]["w1:1"]["kept"] = [99]  # type: ignore[index,call-overload]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ArgumentError):
        graphprune.compile(model, plan=tmp_path / "bad.json")


def test_outputs_are_not_overwritten_by_accident(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    output.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        graphprune.compile(model, Half(), output)
    assert output.read_text() == "precious"
    graphprune.compile(model, Half(), output, force=True)
    assert array(output, "w1").shape == (6, 4)
    (tmp_path / "link.onnx").symlink_to(model)
    with pytest.raises(OutputError, match="is the input"):
        graphprune.compile(model, Half(), tmp_path / "link.onnx", force=True)


def test_given_inputs_are_proved_on_and_checked_first(model: Path) -> None:
    good = {"x": np.ones((40, 6), np.float32)}
    assert graphprune.compile(model, Half(), inputs=good, calibration=good).report.passes[0].proof.ok
    with pytest.raises(DataError):
        graphprune.compile(model, Half(), inputs={"z": good["x"]})


def test_the_timed_region_leaves_proof_and_bench_out(model: Path) -> None:
    timings = graphprune.compile(model, Half(), bench=True).timings
    assert {"load", "normalise", "analyse", "decide", "rewrite", "check", "save", "prove", "bench"} <= set(
        timings.cpu
    )
    assert 0 < timings.compile_cpu < sum(timings.cpu.values())


def test_strings_among_the_initializers_are_cut_like_any_other() -> None:
    names = onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [4], [b"a", b"b", b"c", b"d"])
    weights = {name: np.ones(shape, np.float32) for name, shape in {"w1": (8, 32), "w2": (32, 4)}.items()}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w1"], ["a"]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("MatMul", ["b", "w2"], ["c"]),
        onnx.helper.make_node("ArgMax", ["c"], ["i"], axis=1, keepdims=0),
        onnx.helper.make_node("Gather", ["names", "i"], ["label"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [onnx.helper.make_tensor_value_info("label", onnx.TensorProto.STRING, [1])],
        [names, *(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    small = graphprune.compile(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), "prune(ratio=0.6)"
    )
    kept = next(each for each in small.proto().graph.initializer if each.name == "names")
    assert 0 < len(kept.string_data) < 4 and set(kept.string_data) < {b"a", b"b", b"c", b"d"}
