"""docs/recipes.md: its schema is that of the settings, and what it shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.cli.main import main
from graphprune.pipeline import recipe
from tests.cli.conftest import small_model
from tools.recipe_table import PAGE, render

from .pages import blocks, commands

TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and samples under the names of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ir.save(small_model(), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for name in ("samples.npz", "test.npz"):
        np.savez(tmp_path / name, image=rng.standard_normal((64, 3, 8, 8)).astype(np.float32))
    return tmp_path


def test_the_schema_is_up_to_date() -> None:
    assert render(TEXT) == TEXT, "run: python -m tools.recipe_table"


def test_the_recipe_reads(folder: Path) -> None:
    (text,) = blocks(TEXT, "toml")
    stored = recipe.parse(text)
    assert stored.pipeline == "canonicalize, obspa(macs=0.6)"
    assert stored.options["fix"] == {"sampling_rate": 16000} and stored.thresholds["max_drop"] == 0.02


def test_every_command_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = blocks(TEXT, "toml")
    text = re.sub(r"\[options\.(shape|fix)\]\n.*\n\n", "", text).replace("max-drop = 0.02", "max-drop = 1")
    (folder / "recipe.toml").write_text(text.replace("macs=0.6", "macs=0.6, align=1"))
    for line in commands(TEXT):
        program, *arguments = shlex.split(line)
        force = ["--force"] if arguments[0] == "compile" else []
        assert program == "graphprune" and main([*arguments, *force]) == 0, capsys.readouterr().err


def test_the_messages_are_as_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typo, used, order = blocks(TEXT, "text")
    (text,) = blocks(TEXT, "toml")
    (folder / "recipe.toml").write_text(text.replace("seed", "sede"))
    main(["compile", "model.onnx", "--recipe", "recipe.toml"])
    assert capsys.readouterr().err == typo
    (folder / "graphprune.toml").write_text('pipeline = "magnitude, prune"\n')
    main(["compile", "model.onnx", "-o", "x.onnx"])
    assert capsys.readouterr().err == used + order
