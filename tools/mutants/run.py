"""Runs tests against one mutant after the other, each in a copy of the tree that is thrown away."""

from __future__ import annotations

import compileall
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from queue import Queue

from tools.mutants.draw import Test, git, tests_of
from tools.mutants.operators import Mutant

PATIENCE, START_S = 4.0, 60.0
"""A run may take so many times what its tests take, and so long to start."""
LOST = re.compile(r"^ERROR: not found: (\S+)", re.MULTILINE)
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        id: of the mutant.
        how: killed, timeout, or survived.
        by: the test that noticed.
        tests: how many could.
        wall: seconds.
    """

    id: str
    how: str
    by: str
    tests: int
    wall: float


def unpack(root: Path, commit: str, folder: Path) -> None:
    """The files of a commit, compiled."""
    with tarfile.open(fileobj=BytesIO(git(root, "archive", commit))) as archive:
        archive.extractall(folder, filter="data")
    for name in ("graphprune", "passes", "tests", "tools"):
        compileall.compile_dir(folder / name, quiet=2)


def environment(tree: Path) -> dict[str, str]:
    """Python that reads this tree, and leaves no bytecode of a mutant behind."""
    paths = os.pathsep.join([str(tree), str(tree / "passes")])
    return {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


class Tree:
    """A copy of the commit, with a process that runs its tests."""

    def __init__(self, root: Path, commit: str, folder: Path) -> None:
        unpack(root, commit, folder)
        self.folder = folder
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tools.mutants.worker"], cwd=folder, env=environment(folder), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def judge(self, mutant: Mutant, tests: Sequence[Test]) -> Verdict:
        """Applies the mutant, runs the tests until one fails, and puts the file back."""
        start = time.monotonic()
        file = self.folder / mutant.path
        source = file.read_bytes()
        for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            stale.unlink()
        file.write_bytes(mutant.applied(source))
        try:
            how, by = self.attempt(tests) if tests else ("survived", "")
        finally:
            file.write_bytes(source)
        return Verdict(mutant.id, how, by, len(tests), round(time.monotonic() - start, 1))

    def attempt(self, tests: Sequence[Test]) -> tuple[str, str]:
        """What the tests say about the tree as it is."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        limit = START_S + PATIENCE * sum(test.wall for test in tests)
        task = {"tests": [test.name for test in tests], "limit": limit}
        self._worker.stdin.write(json.dumps(task) + "\n")
        self._worker.stdin.flush()
        done = json.loads(self._worker.stdout.readline())
        if done["code"] is None:
            return "timeout", ""
        if done["code"] == 0:
            return "survived", ""
        if lost := LOST.search(done["out"]):
            raise LookupError(f"{lost.group(1)} is not there any more: find out anew which tests call what")
        named = FAILED.search(done["out"])
        return "killed", named.group(1) if named else f"exit {done['code']}"

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.kill()
        self._worker.wait()


def judged(log: Path) -> dict[str, Verdict]:
    """Verdicts of a run that was interrupted."""
    lines = log.read_text().splitlines() if log.exists() else []
    verdicts = [Verdict(**json.loads(line)) for line in lines]
    return {verdict.id: verdict for verdict in verdicts}


def run_all(
    root: Path, commit: str, drawn: Sequence[Mutant], tests: Sequence[Test], log: Path, jobs: int, most: float
) -> Iterator[Verdict]:
    """Verdicts on those that the log does not hold yet, as they come."""
    known = judged(log)
    rest = [mutant for mutant in drawn if mutant.id not in known]
    random.Random(0).shuffle(rest)  # a run that is cut short is a sample of all areas
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
        file = stack.enter_context(log.open("a"))
        trees: Queue[Tree] = Queue()
        for number in range(jobs):
            trees.put(stack.enter_context(Tree(root, commit, Path(folder) / str(number))))

        def one(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return tree.judge(mutant, tests_of(mutant, tests, most))
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            for verdict in pool.map(one, rest):
                file.write(json.dumps(asdict(verdict)) + "\n")
                file.flush()
                yield verdict


def false_alarms(root: Path, commit: str, names: Sequence[str]) -> set[str]:
    """Those of the tests that fail without any mutant, too: what they noticed was nothing."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        unpack(root, commit, tree)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            *names,
        ]
        done = subprocess.run(
            command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=False
        )
    return set(FAILED.findall(done.stdout))


def forget(log: Path, killers: set[str]) -> None:
    """Takes verdicts back that rest on these tests."""
    rows = [line for line in log.read_text().splitlines() if json.loads(line)["by"] not in killers]
    log.write_text("".join(f"{line}\n" for line in rows))


def map_tests(root: Path, commit: str, reach: Path, jobs: int, folders: Sequence[str]) -> None:
    """Runs the suite once and notes which functions each test calls."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        unpack(root, commit, tree)
        plugin = ("-p", "tools.mutants.reach", "--reach", str(reach))
        options = ("-q", "--no-header", "-p", "no:cacheprovider", "-n", str(jobs), "-m", "not zoo")
        command = [sys.executable, "-m", "pytest", *plugin, *options, *folders]
        subprocess.run(command, cwd=tree, env=environment(tree), check=False)
