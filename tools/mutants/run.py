"""Runs tests against one mutant after the other, each in a copy of the tree that is thrown away."""

from __future__ import annotations

import compileall
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from queue import Queue

from tools.mutants.draw import Test, git, tests_of
from tools.mutants.operators import Mutant

PATIENCE, START_S = 4.0, 60.0
"""A run may take so many times what its tests take, and so long to start."""
PYTEST = ("-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", "--tb=no")
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


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


def judge(tree: Path, mutant: Mutant, tests: Sequence[Test]) -> Verdict:
    """Applies the mutant, runs the tests until one fails, and puts the file back."""
    start = time.monotonic()
    file = tree / mutant.path
    source = file.read_bytes()
    for stale in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        stale.unlink()
    file.write_bytes(mutant.applied(source))
    try:
        how, by = attempt(tree, tests) if tests else ("survived", "")
    finally:
        file.write_bytes(source)
    return Verdict(mutant.id, how, by, len(tests), round(time.monotonic() - start, 1))


def attempt(tree: Path, tests: Sequence[Test]) -> tuple[str, str]:
    """What the tests say about a tree."""
    limit = START_S + PATIENCE * sum(test.wall for test in tests)
    command = [sys.executable, *PYTEST, *(test.name for test in tests)]
    run = subprocess.Popen(
        command, cwd=tree, env=environment(tree), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = run.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, 9)
        run.communicate()
        return "timeout", ""
    if run.returncode == 0:
        return "survived", ""
    named = FAILED.search(out)
    return "killed", named.group(1) if named else f"exit {run.returncode}"


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
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, log.open("a") as file:
        trees: Queue[Path] = Queue()
        for number in range(jobs):
            tree = Path(folder) / str(number)
            unpack(root, commit, tree)
            trees.put(tree)

        def one(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return judge(tree, mutant, tests_of(mutant, tests, most))
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            for verdict in pool.map(one, rest):
                file.write(json.dumps(asdict(verdict)) + "\n")
                file.flush()
                yield verdict


def map_tests(root: Path, commit: str, reach: Path, jobs: int, folders: Sequence[str]) -> None:
    """Runs the suite once and notes which functions each test calls."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        unpack(root, commit, tree)
        plugin = ("-p", "tools.mutants.reach", "--reach", str(reach))
        options = ("-q", "--no-header", "-p", "no:cacheprovider", "-n", str(jobs), "-m", "not zoo")
        command = [sys.executable, "-m", "pytest", *plugin, *options, *folders]
        subprocess.run(command, cwd=tree, env=environment(tree), check=False)
