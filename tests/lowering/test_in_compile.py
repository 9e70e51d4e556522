"""Lowering at the end of a compile: in its place, said, repeated by plans, and off on request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.cli.main import main
from graphprune.lowering.lower import opened
from graphprune.lowering.table import parse, table
from graphprune.runtime.device import DeviceProfile, Machine
from graphprune.runtime.session import open_session

from .graphs import Net, operators
from .test_rules import hard_swish

SHAPE = (1, 8, 12, 12)


def net() -> ir.Model:
    """Two convolutions with hard-swish behind the first and a scale that nobody folds behind the second."""
    made = Net(12, "float", SHAPE)
    first = hard_swish(made, made.conv("x", rows=32))
    second = made.conv(first, rows=16, columns=32)
    scaled = made.op("Add", made.op("Mul", second, made.number([2.0])), made.number([0.5]))
    return made.model(made.conv(made.op("Relu", scaled), rows=4, columns=16, kernel=1))


def run(model: ir.Model) -> np.ndarray:
    """Its output on fixed numbers."""
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    return open_session(model).run({"x": x})["y"]


def test_a_compile_lowers_and_says_so() -> None:
    on = graphprune.compile(net(), "prune(ratio=0.5)")
    off = graphprune.compile(net(), "prune(ratio=0.5)", lower=False)
    assert "HardSigmoid" in operators(on.model)
    assert "HardSigmoid" not in operators(off.model)
    assert np.allclose(run(on.model), run(off.model), atol=1e-4)
    found = on.report.lowering
    assert found is not None and found.proof.ok
    assert {use.rule: use.count for use in found.uses} == {"hard-swish": 1, "affine-behind": 2}
    assert found.nodes_after < found.nodes_before
    assert off.report.lowering is None
    assert (on.report.after.params, on.report.after.macs) == (off.report.after.params, off.report.after.macs)


def test_a_plan_lowers_the_same_way(tmp_path: Path) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    graphprune.compile(net(), "prune(ratio=0.5)", one)
    graphprune.compile(net(), output=two, plan=tmp_path / "one.plan.json")
    assert one.read_bytes() == two.read_bytes()
    stored = json.loads((tmp_path / "one.plan.json").read_text())["lowering"]
    assert stored["target"] == "portable" and stored["table"] == table().hash
    assert "hard-swish" in stored["rules"]


def test_a_plan_that_was_not_lowered_is_not(tmp_path: Path) -> None:
    made = graphprune.compile(net(), "prune(ratio=0.5)", lower=False)
    again = graphprune.compile(net(), plan=made.plan_file)
    assert operators(again.model) == operators(made.model)
    assert again.report.lowering is None


def test_a_plan_with_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    graphprune.compile(net(), "prune(ratio=0.5)", tmp_path / "one.onnx")
    path = tmp_path / "one.plan.json"
    path.write_text(path.read_text().replace('"hard-swish"', '"from-tomorrow"'))
    with pytest.raises(graphprune.GraphpruneError, match="from-tomorrow"):
        graphprune.compile(net(), plan=path)
    assert graphprune.compile(net(), plan=path, lower=False).report.lowering is None


def test_an_empty_pipeline_copies(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    ir.save(net(), source)
    result = graphprune.compile(source, "", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()
    assert result.report.lowering is None


def test_masked_weights_stay_as_they_are() -> None:
    result = graphprune.compile(net(), "magnitude(ratio=0.5)")
    off = graphprune.compile(net(), "magnitude(ratio=0.5)", lower=False)
    assert [use.rule for use in (result.report.lowering or pytest.fail()).uses] == ["hard-swish"]
    for name in (name for plan in result.plans for name in plan.masks):
        one, two = (each.model.graph.initializers[name].const_value for each in (result, off))
        assert one is not None and two is not None
        assert np.array_equal(one.numpy(), two.numpy())


def test_speed_ups_are_against_the_file_and_against_the_lowered_dense_model() -> None:
    latency = graphprune.compile(net(), "prune(ratio=0.5)", bench=True).report.latency
    assert latency is not None and latency.dense_ms is not None and latency.cut_speedup is not None
    assert latency.cut_speedup == pytest.approx(latency.dense_ms / latency.after_ms, rel=0.3)
    alone = graphprune.lower(net(), bench=True).report.latency
    assert alone is not None and alone.cut_speedup is None


def test_that_no_rule_fits_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Net(12, "float", SHAPE)
    ir.save(made.model(made.op("Tanh", made.conv("x"))), tmp_path / "in.onnx")
    assert main(["lower", str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx"), "--no-bench"]) == 0
    assert "no rule fits" in capsys.readouterr().out


def test_scores_near_zero_are_compared_on_their_full_scale() -> None:
    """Out of a Sigmoid near 1e-7 the kernels' own rounding is large beside the largest score."""
    made = Net(12, "float", SHAPE)
    low = made.op("Add", made.conv(hard_swish(made, made.conv("x"))), made.number([-16.0]))
    found = graphprune.lower(made.model(made.op("Sigmoid", low))).report.lowering
    assert found is not None and found.proof.ok and not found.taken_back
    assert "hard-swish" in {use.rule for use in found.uses}


def test_a_model_of_nan_alone_is_lowered_by_its_regions() -> None:
    made = Net(12, "float", SHAPE)
    dark = made.op("Log", made.op("Neg", made.op("Relu", hard_swish(made, made.conv("x")))))
    found = graphprune.lower(made.model(made.op("Mul", dark, made.number(0)))).report.lowering
    assert found is not None and found.proof.ok and not found.taken_back


def test_the_command_lowers_without_pruning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    ir.save(net(), source)
    assert main(["lower", str(source), "-o", str(out), "--no-bench"]) == 0
    said = capsys.readouterr().out
    assert "hard-swish" in said and "proved equal" in said
    assert np.allclose(run(net()), run(ir.load(out)), atol=1e-4)
    assert main(["lower", str(source), "-o", str(out), "--no-bench"]) == 2
    assert main(["lower", str(source), "-o", str(out), "--no-bench", "--force"]) == 0
    assert main(["lower", str(source), "-o", str(out), "--force", "--target", "fast"]) == 2
    assert "portable, native, avx2, avx512" in capsys.readouterr().err
    assert main(["lower", str(source)]) == 2


def test_portable_is_what_is_nowhere_slower() -> None:
    cells = {
        "avx512/1.20": {"both": (1.1, 1), "newer": (0.9, -1), "idle": (1.0, 0)},
        "avx512/1.32": {"both": (1.0, 0), "newer": (1.5, 2), "idle": (1.01, 0)},
    }
    found = parse(json.dumps({"cells": cells}))
    assert found.rules("portable", "avx512/1.32") == {"both"}
    assert found.rules("native", "avx512/1.32") == {"both", "newer"}
    assert found.rules("native", "avx512/1.25") == {"both"}
    assert found.rules("native", "neon/1.32") == {"both"}
    assert found.nearest("avx512/1.10") == "avx512/1.20"


def test_a_target_may_be_an_instruction_set_or_the_machine_of_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    machine = Machine(("x86_64", "avx2", "avx512f"), "1.20.1", 1)
    DeviceProfile(machine).save(path)
    named = graphprune.lower(net(), target="avx512/1.20").plan_file.lowering
    profiled = graphprune.lower(net(), target=path).plan_file.lowering
    assert named == profiled == opened("avx512/1.20")
    assert "prelu-split" not in opened("avx512/1.20").rules
    assert "prelu-split" in opened("avx512/1.32").rules
    DeviceProfile(replace(machine, features=("riscv64",))).save(path)
    assert opened(str(path)).rules == opened("portable").rules


def test_a_target_that_is_none_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(graphprune.GraphpruneError, match=r"avx512/1\.20.*got 'avx51'"):
        graphprune.lower(net(), target="avx51")
    with pytest.raises(graphprune.GraphpruneError, match="no device profile"):
        (tmp_path / "other.json").write_text("{}")
        graphprune.lower(net(), target=tmp_path / "other.json")
    with pytest.raises(graphprune.GraphpruneError, match="cannot read"):
        graphprune.compile(net(), "prune(ratio=0.5)", target="missing.json")


def test_the_table_that_ships_knows_every_rule() -> None:
    from graphprune.lowering.rules import BY_NAME

    for place, rules in table().cells.items():
        assert set(rules) == set(BY_NAME), place
