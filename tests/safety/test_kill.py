"""Killed, interrupted, out of disk: never a broken file under a final name, never a changed input."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.safety.conftest import PRUNE, names, state

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "killing.py"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "passes")])}


def signalled(folder: Path, number: signal.Signals, trials: int, seed: int = 0) -> list[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(int(number)), str(trials), str(seed)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    *wrong, last = done.stdout.splitlines()
    assert last.startswith(f"{trials} trials"), done.stdout
    print(last)
    return wrong


@pytest.mark.parametrize(
    ("number", "trials"), [(signal.SIGKILL, 10), (signal.SIGTERM, 4), (signal.SIGINT, 4)]
)
def test_a_signal_at_a_random_moment_breaks_nothing(
    number: signal.Signals, trials: int, external: Path
) -> None:
    assert signalled(external, number, trials) == []


@pytest.mark.zoo
@pytest.mark.slow
def test_a_hundred_kills_break_nothing(external: Path) -> None:
    assert signalled(external, signal.SIGKILL, 100, seed=1) == []


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "graphprune", *arguments]


def heard() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLOW = ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--timeout", "60")


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.full), signal.SIGINT])
def test_a_run_that_does_not_end_is_interrupted_at_once(number: signal.Signals, folder: Path) -> None:
    import onnx

    from tests.safety.test_values import endless

    onnx.save(endless(), folder / "in.onnx")
    before = state(folder)
    process = subprocess.Popen(
        command(*SLOW, "--verbose"),
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("prove"):
        assert process.poll() is None
    time.sleep(1)
    start = time.monotonic()
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert process.returncode == 2
    assert error == "error: interrupted; no file was left unfinished\n"
    assert state(folder) == before


def with_files_of(limit: int, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs where no file grows beyond so many bytes; Python would keep what it compiled to that length."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


@pytest.mark.parametrize(
    ("limit", "passes"),
    [(1000, "prune(ratio=0.5)"), (3000, "prune(ratio=0)"), (1000, "")],
    ids=["plan", "model", "copy"],
)
@pytest.mark.parametrize("kind", [pytest.param("folder", marks=pytest.mark.full), "external"])
def test_a_full_disk_leaves_nothing(
    limit: int, passes: str, kind: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    (folder / "old.onnx").write_bytes(b"an earlier output")
    before = state(folder)
    arguments = ("compile", "in.onnx", "--passes", passes, "--no-bench", "-o", "old.onnx", "--force")
    done = with_files_of(limit, folder, *arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"error: cannot write '[^\n]*': file too large\nhint: [^\n]*\n", done.stderr), (
        done.stderr
    )
    assert state(folder) == before


def test_a_full_disk_leaves_no_half_report(folder: Path) -> None:
    arguments = ("compile", "in.onnx", "--passes", "", "-o", "out.onnx", "--no-bench", "--report", "r.html")
    done = with_files_of(5000, folder, *arguments)
    allowed = {"in.onnx", "out.onnx", "r.html"}
    assert names(folder) <= allowed and not any(".tmp." in name for name in names(folder))
    if done.returncode:
        assert done.stderr.count("error: ") == 1 and "r.html" not in names(folder)
