"""`profile`: what nodes cost on this machine, in a file that a later run goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured here is judged by nobody."""
    monkeypatch.setattr("graphprune.runtime.alone.SAMPLES", 1)
    monkeypatch.setattr("graphprune.runtime.alone.SAMPLE_SECONDS", 1e-5)


def test_it_writes_a_profile_and_goes_on_with_it(run: Run, folder: Path) -> None:
    first = json.loads(run("profile", "model.onnx", "-o", "device.json", "--json").out)
    assert first["new"] == first["kinds"] > 3
    assert first["left"] == 0
    (model,) = first["models"]
    assert model["name"] == "model.onnx" and model["unknown"] == 0
    costs = json.loads((folder / "device.json").read_text())["costs"]
    again = json.loads(run("profile", "model.onnx", "-o", "device.json", "--json").out)
    assert (again["kinds"], again["new"]) == (first["kinds"], 0)
    assert json.loads((folder / "device.json").read_text())["costs"] == costs


def test_a_short_run_says_what_is_left(run: Run) -> None:
    out = run("profile", "model.onnx", "-o", "device.json", "--minutes", "1e-9").out
    assert "are left: run it again with the same -o" in out
    assert "are left" not in run("profile", "model.onnx", "-o", "device.json").out


def test_a_profile_of_another_machine_is_left_alone(run: Run, folder: Path) -> None:
    run("profile", "model.onnx", "-o", "device.json", "--minutes", "1e-9")
    text = (folder / "device.json").read_text().replace("x86_64", "riscv").replace("aarch64", "riscv")
    (folder / "device.json").write_text(text)
    outcome = run("profile", "model.onnx", "-o", "device.json")
    assert outcome.code == 2 and "measured elsewhere" in outcome.err
    assert (folder / "device.json").read_text() == text


def test_a_file_that_is_no_profile_is_left_alone(run: Run, folder: Path) -> None:
    before = (folder / "model.onnx").read_bytes()
    outcome = run("profile", "model.onnx", "-o", "model.onnx")
    assert outcome.code == 2 and "is no device profile" in outcome.err
    assert (folder / "model.onnx").read_bytes() == before
    assert "there is no" in run("profile", "nothing.onnx", "-o", "device.json").err
    assert "no/device.json" in run("profile", "model.onnx", "-o", "no/device.json").err
