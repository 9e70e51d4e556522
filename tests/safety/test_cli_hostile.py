"""Every class of hostile file by command and by library: one line, no file, no trace in the process."""

from __future__ import annotations

import gc
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.errors import GraphpruneError
from tests.ir.hostile_cases import CASES, OK, Case
from tests.safety.conftest import PRUNE, Run, names, state
from tools import hostile

OUTPUTS = {"out.onnx", "out.plan.json"}
NOTHING = "error: nothing to prune"
# Files that load and yet do not end in a pruned model: exit code and how the error begins (docs/security.md).
ENDINGS = {
    "A17_nested_if": (1, NOTHING),
    "B12_deep_and_narrow": (1, NOTHING),
    "B13_function": (1, NOTHING),
    "B16_custom_domain": (2, "error: ONNX Runtime does not load the model"),
    "C16_chain": (1, NOTHING),
    "C17_diamonds": (1, NOTHING),
    "C18_fan": (1, NOTHING),
    "D30_sparse": (1, NOTHING),
    "D37_infinite": (2, "error: the weights of group"),
    "D52_endless_loop": (1, NOTHING),
    "E30_unaligned": (2, "error: the weights of group"),  # floats read three bytes off: some are NaN
}
SUBPROCESS = ("000_control", "A16_nested_5000", "A24_device", "B12_billion_laughs", "D27_constant_of_shape")
MORE = ("A01_empty", "A23_fifo", "E07_hardlink", "E22_fifo")


def built(case: Case, tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    case.build(folder)
    return folder


def by_id(name: str) -> Case:
    return next(case for case in CASES if case.id == name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_command_on_each_class(
    case: Case, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built(case, tmp_path)
    monkeypatch.chdir(folder)
    before, start = state(tmp_path), time.process_time()
    outcome = run("compile", "model.onnx", *PRUNE, "-o", "out.onnx", "--quiet", "--timeout", "5")
    assert time.process_time() - start < 10
    after = state(tmp_path)
    assert {path: after.get(path) for path in before} == before
    created = {Path(path).name for path in after.keys() - before.keys()}
    code, beginning = ENDINGS.get(case.id, (0, "") if case.expect == OK else (2, "error: "))
    assert (outcome.code, outcome.err[: len(beginning)]) == (code, beginning)
    assert outcome.out == ""
    if code == 0:
        assert outcome.err == "" and created == OUTPUTS
        return
    assert created == set()
    assert len(outcome.errors) == 1 and "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    assert all(line.isprintable() and line.startswith(("error: ", "hint: ", "  ")) for line in lines)


@pytest.mark.parametrize(
    "name", [*SUBPROCESS, *(pytest.param(name, marks=pytest.mark.full) for name in MORE)]
)
def test_a_process_of_its_own_keeps_the_limits(name: str, tmp_path: Path) -> None:
    case = by_id(name)
    ran = hostile.execute(built(case, tmp_path))
    assert hostile.judge(hostile.Case(case.id, case.expect, ""), ran) == ()


@pytest.mark.parametrize(
    "name", ["A17_nested_if", "B16_custom_domain", "C16_chain", "D30_sparse", "D37_infinite"]
)
def test_what_cannot_be_pruned_can_be_copied(
    name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built(by_id(name), tmp_path)
    monkeypatch.chdir(folder)
    assert run("compile", "model.onnx", "--passes", "", "-o", "out.onnx").code == 0
    assert (folder / "out.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    "name", ["A01_empty", "A20_invalid_utf8", "A23_fifo", "B12_billion_laughs", "E01_dotdot"]
)
@pytest.mark.parametrize("command", ["inspect", "explain", "validate", "bench"])
def test_the_other_commands_refuse_alike(command: str, name: str, tmp_path: Path, run: Run) -> None:
    folder = built(by_id(name), tmp_path)
    path = str(folder / "model.onnx")
    arguments = {"explain": [path, "w1"], "validate": [path, path]}.get(command, [path])
    outcome = run(command, *arguments)
    assert (outcome.code, len(outcome.errors), outcome.out) == (2, 1, "")
    assert "Traceback" not in outcome.err


LIBRARY = (
    "000_control",
    "A01_empty",
    "B12_billion_laughs",
    "D27_constant_of_shape",
    "D52_endless_loop",
    "E01_dotdot",
)


def process_state() -> dict[str, object]:
    """What a library has to leave as it found it."""
    gc.collect()
    limits = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    root = logging.getLogger()
    kind, keys, *position = np.random.get_state()
    return {
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "limits": {name: resource.getrlimit(number) for name, number in limits.items()},
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "recursion": sys.getrecursionlimit(),
        "hook": sys.excepthook,
        "errors": np.geterr(),
        "random": (random.getstate(), kind, keys.tobytes(), position),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }  # fmt: skip


def children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.mark.parametrize("name", LIBRARY)
def test_a_library_call_leaves_the_process_as_it_was(name: str, tmp_path: Path) -> None:
    case = by_id(name)
    folder = built(case, tmp_path)
    had_children = children()
    for attempt in range(2):  # the first one imports modules, which may open files and set things up
        before = process_state()
        try:
            graphprune.compile(folder / "model.onnx", "prune(ratio=0.5)", folder / "out.onnx", force=True)
        except GraphpruneError as error:
            refused, message = error.exit_code, error.message
            del error
        else:
            refused, message = 0, ""
        if attempt:
            assert process_state() == before
    assert children() == had_children
    assert refused == ENDINGS.get(name, (0,) if case.expect == OK else (2,))[0]
    assert names(folder) & OUTPUTS == (set() if refused else OUTPUTS)
    assert message.splitlines()[:1] == [message.split("\n")[0]] if message else True


def test_a_library_call_works_outside_the_main_thread(tmp_path: Path) -> None:
    folder = built(by_id("000_control"), tmp_path)
    done: list[object] = []

    def work() -> None:
        done.append(graphprune.compile(folder / "model.onnx", "prune(ratio=0.5)", folder / "out.onnx"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(done) == 1 and (folder / "out.onnx").exists()
