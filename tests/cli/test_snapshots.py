"""What every command prints, as text that people read: help, errors and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Outcome, Run

Check = Callable[[str, Outcome], None]
PRUNE = ("compile", "model.onnx", "--no-bench", "-o", "small.onnx", "--passes")

HELP = {
    "help": (),
    "help-compile": ("compile",),
    "help-inspect": ("inspect",),
    "help-explain": ("explain",),
    "help-validate": ("validate",),
    "help-check": ("check",),
    "help-bench": ("bench",),
    "help-calibrate": ("calibrate",),
    "help-passes": ("passes",),
    "help-init": ("init",),
}

ERRORS = {
    "error-command": ("comple",),
    "error-option": ("compile", "model.onnx", "--pases", "prune"),
    "error-option-elsewhere": ("validate", "a", "b", "--zzz"),
    "error-no-argument": ("inspect",),
    "error-choice": ("inspect", "model.onnx", "--format", "xml"),
    "error-no-model": ("inspect", "nothing.onnx"),
    "error-no-passes": ("compile", "model.onnx", "-o", "x.onnx"),
    "error-no-output": ("compile", "model.onnx", "--passes", "prune"),
    "error-two-sources": ("compile", "model.onnx", "-o", "x.onnx", "--passes", "prune", "--recipe", "r.toml"),
    "error-pass": (*PRUNE, "prnue(ratio=0.5)"),
    "error-argument": (*PRUNE, "prune(ratoi=0.5)"),
    "error-value": (*PRUNE, "prune(ratio=half)"),
    "error-range": (*PRUNE, "prune(ratio=1.5)"),
    "error-syntax": (*PRUNE, "prune(ratio=0.5"),
    "error-same-file": ("compile", "model.onnx", "-o", "model.onnx", "--passes", "prune", "--force"),
    "error-output-folder": ("compile", "model.onnx", "-o", "no/small.onnx", "--passes", "prune"),
    "error-shape": ("inspect", "model.onnx", "--shape", "image=1x3xax2"),
    "error-shape-name": ("bench", "model.onnx", "--shape", "imaeg=1x3x8x8"),
    "error-max-bytes": ("inspect", "model.onnx", "--max-bytes", "1KB"),
    "error-max-bytes-value": ("inspect", "model.onnx", "--max-bytes", "much"),
    "error-explain": ("explain", "model.onnx", "conv1.wieght"),
    "error-explain-nothing": ("explain", "model.onnx"),
    "error-recipe": ("compile", "model.onnx", "-o", "x.onnx", "--recipe", "recipe.toml"),
    "error-plan": ("compile", "model.onnx", "-o", "x.onnx", "--plan", "recipe.toml"),
    "error-calibration": (*PRUNE, "prune", "--calibration", "wrong.npz"),
    "error-calibration-file": (*PRUNE, "prune", "--calibration", "recipe.toml"),
    "error-nothing-left": (*PRUNE, 'prune(ignore=["*"])'),
}

TABLES = {
    "passes": ("passes",),
    "passes-prune": ("passes", "prune"),
    "passes-depth": ("passes", "depth"),
    "passes-experts": ("passes", "experts"),
    "passes-pagcp": ("passes", "pagcp"),
    "inspect": ("inspect", "model.onnx", "--shape", "image=1x3x8x8"),
    "explain-pinned": ("explain", "model.onnx", "fc.bias"),
    "explain-coupled": ("explain", "model.onnx", "conv1.weight", "conv2.weight"),
    "explain-coupled-outputs": ("explain", "model.onnx", "conv1.weight:0", "conv2.weight:0"),
    "explain-apart": ("explain", "model.onnx", "conv1.bias", "conv3.bias"),
    "compile": (*PRUNE, "prune(ratio=0.5, criterion=l1, align=1)"),
    "compile-verbose": (*PRUNE, "prune(ratio=0.5, criterion=l1, align=1)", "--verbose"),
    "compile-copy": ("compile", "model.onnx", "-o", "copy.onnx", "--passes", ""),
    "validate-same": ("validate", "model.onnx", "model.onnx"),
}


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    (folder / "recipe.toml").write_text('pipelin = "prune"\n')
    np.savez(folder / "wrong.npz", imgae=np.zeros((4, 3, 8, 8), np.float32))


@pytest.mark.parametrize("name", HELP)
def test_help(name: str, run: Run, snapshot: Check) -> None:
    outcome = run(*HELP[name], "--help")
    assert (outcome.code, outcome.err) == (0, "")
    snapshot(name, outcome)


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str, run: Run, snapshot: Check, folder: Path) -> None:
    before = sorted(folder.iterdir())
    outcome = run(*ERRORS[name])
    assert outcome.code == (1 if name == "error-nothing-left" else 2)
    assert outcome.out == ""
    assert outcome.err.startswith("error: ") and outcome.err.count("error: ") == 1
    assert sorted(folder.iterdir()) == before
    snapshot(name, outcome)


@pytest.mark.parametrize("name", TABLES)
def test_table(name: str, run: Run, snapshot: Check) -> None:
    outcome = run(*TABLES[name])
    assert outcome.code == 0
    snapshot(name, outcome)


def test_width_of_the_window_changes_nothing_in_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = set()
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        texts.add(run("inspect", "model.onnx").out + run("compile", "--help").out)
    assert len(texts) == 1
