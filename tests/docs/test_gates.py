"""The GitHub Action and the pre-commit hook, run by the commands that their files hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx_ir as ir
import pytest
import yaml

from graphprune.cli.main import main
from tests.cli.conftest import small_model

from .pages import ROOT, blocks

PASSES = "--max-drop=1\n--inputs=x.npz\n\n--max-bytes=1\n"
FAILS = "--max-drop=0\n--inputs=x.npz\n"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Ran:
    """What the action's step left."""

    code: int
    out: str
    summary: str
    outputs: dict[str, str]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two models whose answers differ, and samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name, seed in (("dense model.onnx", 0), ("small.onnx", 1)):
        ir.save(small_model(seed), tmp_path / name)
    image = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    return tmp_path


def step(name: str, folder: Path, **given: str) -> Ran:
    """Runs a step as the runner does: inputs in the environment, bash that stops at the first failure."""
    (found,) = (each for each in ACTION["runs"]["steps"] if each["id"] == name)
    values = {f"inputs.{key}": each.get("default", "") for key, each in ACTION["inputs"].items()}
    values |= {f"inputs.{key}": value for key, value in given.items()} | {"github.action_path": str(ROOT)}
    own = {
        key: re.sub(r"\$\{\{ (\S+) \}\}", lambda m: values[m[1]], text) for key, text in found["env"].items()
    }
    files = {key: str(folder / key.lower()) for key in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for path in files.values():
        Path(path).touch()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]],
        env={**os.environ, **own, **files, "RUNNER_TEMP": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    summary, said = (Path(path).read_text() for path in files.values())
    return Ran(done.returncode, done.stdout, summary, dict(line.split("=", 1) for line in said.splitlines()))


def check(folder: Path, options: str) -> Ran:
    return step("check", folder, dense="dense model.onnx", small="small.onnx", options=options)


def test_the_action_passes_on_what_the_check_says(checkout: Path) -> None:
    passed = check(checkout, PASSES)
    assert passed.code == 0 and passed.out.startswith("::")
    assert "### graphprune check: small.onnx against dense model.onnx" in passed.summary
    assert set(passed.outputs) == set(ACTION["outputs"])
    assert json.loads(Path(passed.outputs["result"]).read_text())["ok"] is True
    assert ElementTree.parse(passed.outputs["junit"]).getroot().get("failures") == "0"
    failed = check(checkout, FAILS)
    assert failed.code == 1 and "::error title=graphprune check::FAILED: drop" in failed.out
    assert "| FAIL | drop |" in failed.summary


def test_the_action_ends_with_the_code_of_a_mistake(checkout: Path) -> None:
    ran = check(checkout, "--max-dorp=1")
    assert (ran.code, ran.summary, ran.outputs) == (2, "", {})


def test_words_of_the_action_are_not_expanded(checkout: Path) -> None:
    ran = check(checkout, f"{PASSES}--metric=$(touch owned):x`touch owned`\n")
    assert ran.code == 2 and not (checkout / "owned").exists()


def test_the_action_takes_no_input_into_a_script() -> None:
    assert not any("${{" in each["run"] for each in ACTION["runs"]["steps"])


def test_the_action_installs_what_is_asked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = checkout / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    assert step("install", checkout).out == f"-m pip install --quiet {ROOT}\n"
    assert step("install", checkout, install="graphprune==1").out == "-m pip install --quiet graphprune==1\n"
    skipped = step("install", checkout, install="none")
    assert (skipped.code, skipped.out) == (0, "")


def test_the_hook_runs_on_models_alone(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = shlex.split(HOOK["entry"])
    assert program == "graphprune" and HOOK["pass_filenames"] is False
    assert main([*words, "dense model.onnx", "small.onnx", "--max-bytes=1"]) == 0
    assert main([*words, "dense model.onnx", "small.onnx", "--max-bytes=1KB"]) == 1, capsys.readouterr()
    assert [bool(re.search(HOOK["files"], name)) for name in ("a/b.onnx", "m.onnx.0a.data", "x.py")] == [
        1,
        1,
        0,
    ]


def test_the_page_shows_both_as_they_are() -> None:
    workflow, hooks = map(yaml.safe_load, blocks((ROOT / "docs" / "check.md").read_text(), "yaml"))
    (job,) = workflow["jobs"].values()
    (used,) = (each for each in job["steps"] if "graphprune" in each.get("uses", ""))
    needed = {name for name, each in ACTION["inputs"].items() if each.get("required")}
    assert needed <= used["with"].keys() <= ACTION["inputs"].keys()
    assert [each["id"] for each in hooks["repos"][0]["hooks"]] == [HOOK["id"]]
