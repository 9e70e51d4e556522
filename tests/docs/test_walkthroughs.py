"""The walk-throughs, command by command as they stand, in a fresh checkout."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .pages import ROOT, blocks, commands

INSTALL = "python -m pip"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository as somebody has it who cloned it, without what it wrote since."""
    for name in ("models", "tools", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "passes"))))
    return tmp_path


def follow(page: str, checkout: Path) -> list[str]:
    """Run every line of a page but installations; what each printed."""
    folder, said = checkout, []
    for line in commands((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if line.startswith(INSTALL):
            continue
        if line.startswith("cd "):
            folder = (folder / line.removeprefix("cd ")).resolve()
            continue
        done = subprocess.run(
            shlex.split(line), cwd=folder, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout + done.stderr)
    return said


@pytest.mark.full
def test_the_cnn(checkout: Path) -> None:
    said = follow("walkthrough-cnn.md", checkout)
    assert any("settings from graphprune.toml" in each for each in said)
    assert "made by" in said[-1] and "obspa(macs=0.5)" in said[-1]
    assert (checkout / "project" / "again.onnx").read_bytes() == (
        checkout / "project" / "half.onnx"
    ).read_bytes()
    assert "<html" in (checkout / "project" / "small.html").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_language_model(checkout: Path) -> None:
    said = follow("walkthrough-language-model.md", checkout)
    bits = re.fullmatch(r"(\d\.\d\d) bits per byte on held-out pages\n", said[0])
    assert bits and float(bits[1]) < 4.5  # 7 would be a guess among 128 bytes
    assert "as next tokens" in "".join(said)


@pytest.mark.zoo
def test_the_detector(checkout: Path) -> None:
    said = follow("walkthrough-detector.md", checkout)
    assert "(assumed; --shape)" in said[2] and "(assumed; --shape)" not in said[3]
    assert "'sigmoid_0.tmp_0' as scores" in said[4]
    found = re.search(r"model +line_f1 (\d\.\d+)", said[-1])
    assert found and float(found[1]) > 0.9


def test_the_extras_are_those_that_there_are() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"`graphprune\[(\w+)\]`", page)) <= set(known["optional-dependencies"])
    measured = page.partition("<!-- size: python -m tools.install_size -->")[2]
    assert "| graphprune |" in measured and "| onnxruntime |" in measured
    assert blocks(page, "sh")[0].startswith("python -m pip install .")
