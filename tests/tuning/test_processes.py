"""Pieces of work go to other processes, and results come back in order, whatever happens to these."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphprune.run import silent
from graphprune.tuning.deadline import OutOfTimeError
from graphprune.tuning.processes import Died, Processes

WORK = """
import os, sys, time

def add(shared, item):
    print("printed")
    time.sleep(0.3 if item == 0 else 0.0)
    return shared + item, os.getpid()

def fail(shared, item):
    raise ValueError(f"no {item}")

def die(shared, item):
    if item == 1:
        os._exit(3)
    return item

def die_once(shared, item):
    if item == 1 and not os.path.exists(shared):
        open(shared, "w").close()
        os._exit(3)
    return item

def hang(shared, item):
    open(shared, "w").close()
    time.sleep(600)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "some_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import some_work  # type: ignore[import-not-found]

    return some_work


@pytest.fixture
def processes() -> Iterator[Processes]:
    found = Processes(2, silent)
    yield found
    found.close()


def test_results_come_in_order_from_as_many_processes_as_there_may_be(work, processes) -> None:  # type: ignore[no-untyped-def]
    found = list(processes.map(work.add, 10, range(6)))
    assert [value for value, _ in found] == [10, 11, 12, 13, 14, 15]
    pids = {pid for _, pid in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_processes_stay_for_the_next_work_and_learn_what_is_shared_anew(work, processes) -> None:  # type: ignore[no-untyped-def]
    shared = 10
    first = {pid for _, pid in processes.map(work.add, shared, range(4))}
    again = {pid for _, pid in processes.map(work.add, shared, range(4))}
    assert first == again
    assert [value for value, _ in processes.map(work.add, 1000, range(2))] == [1000, 1001]


def test_what_is_raised_there_is_raised_here(work, processes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no 7"):
        list(processes.map(work.fail, 0, [7]))


def test_work_whose_process_dies_is_begun_again_and_then_given_up(work, processes, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert list(processes.map(work.die, 0, range(4))) == [0, Died(1), 2, 3]
    assert list(processes.map(work.die_once, str(tmp_path / "seen"), range(4))) == [0, 1, 2, 3]


def test_whoever_is_told_progress_may_end_it_and_nothing_runs_on(work, tmp_path) -> None:  # type: ignore[no-untyped-def]
    begun = tmp_path / "begun"

    def progress(done: int, total: int, what: str) -> None:
        if begun.exists():
            raise OutOfTimeError

    found = Processes(1, progress)
    with pytest.raises(OutOfTimeError):
        list(found.map(work.hang, str(begun), [0]))
    (worker,) = found._busy
    found.close()
    assert worker.process.returncode is not None


def test_processes_end_with_the_one_that_asked(work, tmp_path) -> None:  # type: ignore[no-untyped-def]
    begun = tmp_path / "begun"
    code = (
        "import os, some_work, sys\nfrom graphprune.run import silent\n"
        "from graphprune.tuning.processes import Processes\n"
        "def stop(*told):\n"
        f"    if os.path.exists({str(begun)!r}):\n"
        "        print(next(iter(p._busy)).process.pid, flush=True)\n        os._exit(0)\n"
        f"p = Processes(1, stop)\nlist(p.map(some_work.hang, {str(begun)!r}, [0]))\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    pid = int(ran.stdout)
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    assert time.monotonic() < until
