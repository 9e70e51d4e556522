"""States of the code: git commits, unpacked; and processes that run under one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from graphprune.errors import ArgumentError

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Side:
    """A state of the code.

    Attributes:
        name: as it was asked for.
        key: of its files: commits with the same files have the same results.
        folder: where they are.
    """

    name: str
    key: str
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a process that imports this state and nothing of another one."""
        path = os.pathsep.join(str(self.folder / part) for part in ("", "passes"))
        return {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}


def git(*arguments: str) -> bytes:
    """What git prints.

    Raises:
        ArgumentError: it fails.
    """
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        raise ArgumentError(f"git {' '.join(arguments)}: {done.stderr.decode().strip()}")
    return done.stdout


def unpacked(revision: str, folder: Path) -> Side:
    """A commit, a tag or a branch as files below `folder`."""
    key = git("rev-parse", f"{revision}^{{tree}}").decode().strip()[:16]
    target = folder / key
    if not target.exists():
        partial = folder / f".{os.getpid()}.{key}"
        with tarfile.open(fileobj=BytesIO(git("archive", revision))) as archive:
            archive.extractall(partial, filter="data")
        partial.replace(target)
    return Side(revision, key, target)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: its exit status; negative for a signal.
        seconds: of CPU, threads and children included.
        said: the end of what it printed.
    """

    status: int
    seconds: float
    said: str


def run(command: Sequence[str], side: Side, timeout: float, log: Path) -> Ended:
    """Runs Python under a state of the code, for at most so many seconds of wall time."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=side.environment,
            cwd=log.parent,
            stdout=stream,
            stderr=stream,
        )
    end = time.monotonic() + timeout
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            process.kill()
            end = float("inf")
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(process.returncode, used.ru_utime + used.ru_stime, log.read_text(errors="replace")[-600:])
