"""Runs one job in a child process under time and memory limits, so that a crash is a row and not an abort."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

T = TypeVar("T")
FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+")
"""An absolute path up to its last part."""


@dataclass(frozen=True)
class Limits:
    """Limits of one child.

    Attributes:
        seconds: CPU seconds; the wall limit is three times that.
        gigabytes: address space.
    """

    seconds: int = 300
    gigabytes: float = 14.0


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The child's value, or one line saying why there is none."""

    value: T | None
    reason: str | None
    seconds: float


def one_line(error: BaseException) -> str:
    """The first informative line of an exception, short enough for a table cell; no folder of a machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {FOLDERS.sub('', lines[0]) if lines else 'no message'}"
    return text if len(text) <= 200 else text[:197] + "..."


def _silence() -> None:
    """Sends stdout and stderr of the child, C++ writers included, to nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def _child(job: Callable[[], T], limits: Limits, pipe: Connection) -> None:
    size = int(limits.gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    _silence()
    try:
        pipe.send((job(), None))
    except Exception as error:
        pipe.send((None, one_line(error)))


def run(job: Callable[[], T], limits: Limits) -> Outcome[T]:
    """Runs `job` in a forked child; its value must pickle."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    start = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(job, limits, sender))
    process.start()
    sender.close()
    value, reason = None, None
    try:
        if receiver.poll(3 * limits.seconds):
            value, reason = receiver.recv()
        else:
            reason = f"no answer within {3 * limits.seconds} s"
            process.kill()
    except EOFError:
        pass
    process.join()
    receiver.close()
    if value is None and reason is None:
        reason = _died(process.exitcode, limits)
    return Outcome(value, reason, time.monotonic() - start)


def _died(code: int | None, limits: Limits) -> str:
    if code is None or code >= 0:
        return f"child exited with status {code}"
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        return f"killed: over {limits.seconds} CPU s or out of memory"
    return f"crashed with {signal.Signals(-code).name}"
