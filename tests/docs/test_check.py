"""docs/check.md: its commands run in a checkout, and its thresholds are those that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from graphprune.cli.main import main
from graphprune.pipeline import thresholds
from graphprune.pipeline.thresholds import THRESHOLDS

from .pages import ROOT, blocks, commands

PAGE = ROOT / "docs" / "check.md"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    small = ("-o", "small.onnx", "--passes", "prune(ratio=0.5)", "-q", "--no-bench")
    data = ("--calibration", "models/digits_cnn/calibration.npz")
    assert main(("compile", "models/digits_cnn/model.onnx", *small, *data)) == 0
    return tmp_path


def test_every_threshold_has_a_row() -> None:
    assert re.findall(r"^\| `(--\S+)` \|", PAGE.read_text(), re.MULTILINE) == [
        each.flag for each in THRESHOLDS
    ]


@pytest.mark.slow
def test_every_command_succeeds(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(PAGE.read_text()):
        program, *arguments = shlex.split(line)
        assert program == "graphprune" and main(arguments) == 0, capsys.readouterr()


def test_the_file_of_thresholds_is_one(tmp_path: Path) -> None:
    (text,) = blocks(PAGE.read_text(), "toml")
    (tmp_path / "t.toml").write_text(text)
    assert thresholds.read(tmp_path / "t.toml").keys() == {"max_drop", "max_bytes", "strict", "outputs"}
