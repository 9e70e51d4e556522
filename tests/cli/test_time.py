"""`inspect --time`: where a model's time goes, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from tests.cli.conftest import Run


def test_it_says_where_the_time_goes(run: Run) -> None:
    out = run("inspect", "model.onnx", "--time").out
    title = next(line for line in out.splitlines() if line.startswith("Time: "))
    assert title.endswith("outside contractions")
    assert "Dearest nodes outside contractions" in out
    assert "Time:" not in run("inspect", "model.onnx").out


def test_shares_of_the_document_make_up_one(run: Run) -> None:
    times = json.loads(run("inspect", "model.onnx", "--time", "--json").out)["times"]
    for key in ("works", "nodes"):
        assert sum(each["share"] for each in times[key]) == pytest.approx(1)
    outside = [each["share"] for each in times["nodes"] if each["work"] != "contractions"]
    assert sum(outside) == pytest.approx(times["outside"])
    assert times["ms"] > 0 and times["threads"] == 1


def test_the_shape_that_is_asked_for_is_timed(run: Run) -> None:
    found = run("inspect", "model.onnx", "--time", "--json", "--shape", "image=5x3x8x8").out
    assert {node["shape"][0] for node in json.loads(found)["times"]["nodes"]} == {5}


def test_a_model_that_does_not_run_is_an_error(run: Run, folder: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "my.own" : 1]> g '
    text = head + "(float[2] x) => (float[2] y) { y = my.own.Foo(x) }"
    ir.save(ir.from_onnx_text(text), folder / "odd.onnx")
    outcome = run("inspect", "odd.onnx", "--time")
    assert outcome.code == 2
    assert "Foo" in outcome.err and "Traceback" not in outcome.err
