"""A folder with a model, and the command line in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from graphprune.cli.main import main
from tests.ir.hostile_cases import cnn

PRUNE = ("--passes", "prune(ratio=0.5)", "--no-bench")


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


Run = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with in.onnx in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.onnx").write_bytes(cnn().SerializeToString())
    return tmp_path


@pytest.fixture
def external(folder: Path) -> Path:
    """The same but wider, its weights in in.onnx.data, and so big that they stay outside."""
    onnx.save(
        cnn(64), folder / "in.onnx", save_as_external_data=True, location="in.onnx.data", size_threshold=0
    )
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("compile", "in.onnx", ...)`."""

    def call(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        return Outcome(code, *capfd.readouterr())

    return call


State = dict[str, tuple[str, int, bytes]]


def state(folder: Path) -> State:
    """Kind or link target, time and content of everything below a folder."""
    found = {}
    for top, below, files in os.walk(folder):
        for path in (Path(top, name) for name in (*below, *files)):
            status = path.lstat()
            if path.is_symlink():
                found[str(path)] = (str(path.readlink()), status.st_mtime_ns, b"")
            elif path.is_dir():
                found[str(path)] = ("folder", 0, b"")
            else:
                content = path.read_bytes() if path.is_file() else b""
                found[str(path)] = ("file", status.st_mtime_ns, content)
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
