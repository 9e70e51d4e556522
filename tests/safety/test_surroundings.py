"""What surrounds a run: streams that are closed or full, names that are too long, locales, telemetry."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.safety.conftest import PRUNE, Run, names
from tests.safety.test_kill import command, environment

COMPILE = ("compile", "in.onnx", *PRUNE, "-o", "out.onnx")
WRITTEN = "hint: what was to be written is complete: out.onnx, out.plan.json\n"


class Full(io.StringIO):
    """A stream that takes nothing, as a full disk does."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_stdout_is_no_bug_and_says_what_was_written(folder: Path, tmp_path: Path) -> None:
    """As a process: Python's own flush at the end must not fail either. Nothing but the outputs appears."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    private = {"HOME": str(home), "TMPDIR": str(temporary), "PATH": os.environ["PATH"]}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*COMPILE),
            cwd=folder,
            env={**private, "PYTHONPATH": environment()["PYTHONPATH"]},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to stdout: no space left on device\n" + WRITTEN
    assert names(folder) >= {"in.onnx", "out.onnx", "out.plan.json"}
    assert [path for place in (home, temporary) for path in place.rglob("*")] == [], "telemetry"


def test_a_closed_stdout_is_no_bug(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    outcome = run(*COMPILE)
    assert (outcome.code, outcome.err) == (2, "error: cannot write to stdout: it is closed\n" + WRITTEN)
    assert run(*COMPILE, "--force", "--quiet").code == 0
    assert run("inspect", "in.onnx").err == "error: cannot write to stdout: it is closed\n"


def test_a_report_that_cannot_be_written_does_not_hide_the_model(folder: Path, run: Run) -> None:
    (folder / "locked").mkdir()
    arguments = (*COMPILE, "--report", "locked/r.html")

    def lock(done: int, total: int, what: str) -> None:
        shutil.rmtree(folder / "locked", ignore_errors=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphprune.cli.output.Progress.__call__", lambda *_: lock(0, 0, ""))
        outcome = run(*arguments)
    assert outcome.code == 2 and len(outcome.errors) == 1 and outcome.err.endswith(WRITTEN)


def test_work_does_not_fail_because_stderr_is_full(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    assert run(*COMPILE).code == 0
    assert run(*COMPILE).code == 2


def test_a_reader_that_left_needs_no_words(folder: Path) -> None:
    for arguments in (("inspect", "in.onnx"), ("--help",)):
        receive, send = os.pipe()
        os.close(receive)
        done = subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment(),
            stdout=send,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(send)
        assert (done.returncode, done.stderr) == (2, "")


LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile", f"{LONG}.onnx", *PRUNE, "-o", "out.onnx"),
        ("compile", "in.onnx", *PRUNE, "-o", f"{LONG}.onnx"),
        ("compile", "in.onnx", *PRUNE, "-o", f"{LONG}/out.onnx"),
        ("compile", "in.onnx", *PRUNE, "-o", f"{'n' * 240}.onnx"),  # fits, but not with a plan beside it
        ("compile", "in.onnx", "--passes", "", "-o", f"{LONG}.onnx"),
        (*COMPILE, "--report", f"{LONG}.html"),
        *((*COMPILE, f"--{name}", LONG) for name in ("calibration", "inputs", "statistics", "reproducer")),
        ("compile", "in.onnx", "--plan", f"{LONG}.json", "-o", "out.onnx"),
        ("compile", "in.onnx", "--recipe", LONG, "-o", "out.onnx"),
        ("calibrate", "in.onnx", LONG, "-o", "out.npz"),
        ("calibrate", "in.onnx", "in.onnx", "-o", f"{LONG}.npz"),
        ("validate", "in.onnx", LONG),
        ("explain", LONG),
    ],
)  # fmt: skip
def test_a_name_too_long_is_one_line(arguments: tuple[str, ...], folder: Path, run: Run) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2 and len(outcome.errors) == 1 and "internal" not in outcome.err
    assert names(folder) == {"in.onnx"}


@pytest.mark.parametrize("name", ["möd.onnx".encode(), b"m\xff.onnx"])
def test_the_locale_does_not_hide_a_model_from_the_check(name: bytes, folder: Path) -> None:
    """With LC_ALL=C a path may reach Python as surrogates, which ONNX Runtime does not take."""
    (folder / "in.onnx").rename(folder / os.fsdecode(name))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [*map(os.fsencode, command("compile")), name, *map(os.fsencode, (*PRUNE, "-o", "out.onnx"))],
        cwd=folder,
        env={**environment(), **ascii_only},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "does not run the model as it was given" not in done.stdout + done.stderr
