"""Files that get their names: whatever fails, whoever comes in between, whenever the process dies."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphprune
from graphprune.errors import OutputError
from graphprune.ir.load import load
from graphprune.ir.publish import create, publish, temporaries
from tests.safety.conftest import PRUNE, Run, names, state
from tests.safety.test_kill import environment

SCRIPT = Path(__file__).parent / "publishing.py"


def test_a_failure_or_a_kill_at_every_system_call_loses_nothing() -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), folder],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    *wrong, last = done.stdout.splitlines() or [done.stderr]
    assert wrong == [] and done.returncode == 0, done.stderr
    assert min(map(int, re.findall(r" (\d+) \(", last))) > 50, last
    assert min(map(int, re.findall(r" \((\d+) that change", last))) > 15, last


def test_what_appears_during_the_compile_stays(folder: Path) -> None:
    """One name after the other is taken between the first check and the last step."""
    for name in ("out.onnx", "out.plan.json", "out.plan.safetensors"):

        def appear(done: int, total: int, what: str, name: str = name) -> None:
            if what == "save":
                (folder / name).write_bytes(b"of someone else")

        with pytest.raises(OutputError, match=re.escape(f"{name}' exists by now")):
            graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx", progress=appear)
        assert (folder / name).read_bytes() == b"of someone else"
        assert names(folder) == {"in.onnx", name}
        (folder / name).unlink()


def test_with_force_it_is_replaced(folder: Path) -> None:
    def appear(done: int, total: int, what: str) -> None:
        if what == "save":
            (folder / "out.onnx").write_bytes(b"of someone else")

    graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx", force=True, progress=appear)
    assert load(folder / "out.onnx").model is not None
    assert names(folder) == {"in.onnx", "out.onnx", "out.plan.json"}


def test_a_replaced_file_keeps_its_mode(external: Path, run: Run) -> None:
    modes = {"out.onnx": 0o600, "out.plan.json": 0o644, "r.json": 0o640}
    arguments = ("compile", "in.onnx", *PRUNE, "-o", "out.onnx", "--report", "r.json")
    assert run(*arguments).code == 0
    for name, mode in modes.items():
        (external / name).chmod(mode)
    assert run("compile", "in.onnx", "--passes", "prune(ratio=0.25)", *arguments[4:], "--force").code == 0
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in external.iterdir()}
    assert found.items() >= modes.items()
    assert [mode for name, mode in found.items() if name.startswith("out.onnx.")] == [0o600]


def test_two_threads_leave_one_set_whole(external: Path) -> None:
    """Six at once, without --force: one wins, five say so. With it, the last one's set is there."""
    for overwrite in (False, True):
        lost: list[str] = []

        def work(ratio: float, overwrite: bool = overwrite, lost: list[str] = lost) -> None:
            try:
                graphprune.compile("in.onnx", f"prune(ratio={ratio})", "out.onnx", force=overwrite)
            except OutputError as error:
                lost.append(error.message)

        threads = [threading.Thread(target=work, args=(ratio,)) for ratio in (0.25, 0.5, 0.75) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(lost) == (0 if overwrite else 5) and all("exists" in line for line in lost)
        cut = json.loads((external / "out.plan.json").read_text())["passes"][0]["plan"]["groups"]
        found = {tensor.name: tensor.dims[0] for tensor in onnx.load("out.onnx").graph.initializer}
        kept = {name: len(cut[f"{name}:0"]["kept"]) if f"{name}:0" in cut else 64 for name in ("w1", "w2")}
        assert cut and {name: found[name] for name in kept} == kept
        assert not any(re.search(r"\.(tmp|new|old|add)\.", name) for name in names(external))


def test_two_processes_with_one_number_do_not_share_a_temporary(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 7)
    final = folder / "out.onnx"
    with temporaries([final]) as (one,), temporaries([final]) as (other,):
        assert one != other
        for path in (one, other):
            with create(path) as file:
                file.write(path.name.encode())
        publish((one, final), overwrite=False)
        with pytest.raises(OutputError, match="exists by now"):
            publish((other, final), overwrite=False)
    assert final.read_bytes() == one.name.encode() and names(folder) == {"in.onnx", "out.onnx"}


def test_the_same_weights_are_not_written_twice(external: Path) -> None:
    first = graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx").report.files
    before = state(external)
    second = graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx", force=True).report.files
    data = next(name for name in first if name.endswith(".data"))
    assert (
        first == second and {k: v for k, v in before.items() if data in k}.items() <= state(external).items()
    )


def test_damaged_weights_are_replaced_when_asked(external: Path) -> None:
    graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx")
    data = next(path for path in external.iterdir() if path.match("out.onnx.*.data"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-8] + bytes(8))
    graphprune.compile("in.onnx", "prune(ratio=0.5)", "out.onnx", force=True)
    assert data.read_bytes() == whole
    assert np.all([array.data_type for array in onnx.load("out.onnx").graph.initializer])
