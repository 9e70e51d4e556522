"""Work that other processes of this machine do, several pieces at a time; results come in their order.

A process is this module as a script: it reads what all work shares once, then one piece after the other, and
writes what came of each. It ends when nobody is left to read that, and is stopped at once by `close`.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from graphprune.run import Progress
from graphprune.tuning.engine import LOOK

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
TRIES = 2
"""How often a piece of work is begun whose process dies."""


@dataclass(frozen=True)
class Died(Generic[T]):
    """What came of a piece of work whose process died as often as it was begun."""

    item: T


@dataclass(eq=False)
class _Worker:
    """A process, and a thread that waits for what it writes."""

    told: queue.SimpleQueue[tuple[_Worker, bytes | None]]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, "-P", "-m", __name__]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # an interrupt is for the one who asked; it stops this one
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for content in _contents(self.process.stdout):
            self.told.put((self, content))
        self.told.put((self, None))

    def send(self, message: object) -> None:
        """Hands something to it; where it is dead that is told as such."""
        assert self.process.stdin is not None
        with suppress(OSError):
            _write(self.process.stdin, message)

    def stop(self) -> None:
        """Ends it now."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


class Processes:
    """Processes of this machine that do pieces of work.

    Args:
        count: of processes, at most.
        progress: told while they work; what it raises ends that.
    """

    def __init__(self, count: int, progress: Progress) -> None:
        self._count, self._progress = count, progress
        self._told: queue.SimpleQueue[tuple[_Worker, bytes | None]] = queue.SimpleQueue()
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, int] = {}
        self._shared: object = None

    def map(self, work: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R | Died[T]]:
        """All items, as many at a time as there are processes.

        Raises:
            Exception: what the work raised.
        """
        if shared is not self._shared:
            self.close()
            self._shared = shared
        waiting = deque((number, TRIES) for number in range(len(items)))
        tries: dict[int, int] = {}
        found: dict[int, R | Died[T]] = {}
        for number in range(len(items)):
            while number not in found:
                while waiting and len(self._busy) < self._count:
                    at, left = waiting.popleft()
                    tries[at] = left - 1
                    self._begin(work, shared, at, items[at])
                told = self._next(number, len(items))
                if told is None:
                    continue
                at, content = told
                if content is not None:
                    found[at] = _result(content)
                elif tries[at]:
                    waiting.appendleft((at, tries[at]))
                else:
                    found[at] = Died(items[at])
            yield found.pop(number)

    def _begin(self, work: Callable[[S, T], R], shared: S, number: int, item: T) -> None:
        if self._idle:
            worker = self._idle.pop()
        else:
            worker = _Worker(self._told)
            worker.send((work, shared))
        self._busy[worker] = number
        worker.send(item)

    def _next(self, done: int, total: int) -> tuple[int, bytes | None] | None:
        """The piece whose process wrote something or died; None where none did for a while."""
        self._progress(done, total, "processes")
        try:
            worker, content = self._told.get(timeout=LOOK)
        except queue.Empty:
            return None
        number = self._busy.pop(worker, None)
        if content is None:
            worker.stop()
            self._idle = [each for each in self._idle if each is not worker]
        elif number is not None:
            self._idle.append(worker)
        return None if number is None else (number, content)

    def close(self) -> None:
        """Stops all processes, whatever they are at."""
        for worker in (*self._idle, *self._busy):
            worker.stop()
        self._idle, self._busy, self._shared = [], {}, None
        self._told = queue.SimpleQueue()


def _result(content: bytes) -> Any:
    """What the work returned.

    Raises:
        Exception: what it raised.
    """
    returned, value = pickle.loads(content)
    if not returned:
        raise value
    return value


def _write(file: IO[bytes], message: object) -> None:
    content = pickle.dumps(message)
    file.write(len(content).to_bytes(8, "little") + content)
    file.flush()


def _contents(file: IO[bytes]) -> Iterator[bytes]:
    """Messages up to the end of a pipe; one that breaks off is none."""
    with suppress(OSError, ValueError):
        while len(size := file.read(8)) == 8:
            content = file.read(int.from_bytes(size, "little"))
            if len(content) < int.from_bytes(size, "little"):
                return
            yield content


def _serve(given: IO[bytes], taken: IO[bytes]) -> None:
    """Does what it is given, one piece after the other."""
    from graphprune.runtime.jobs import one_blas_thread

    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for content in _contents(given):
            waiting.put(content)
        os._exit(0)  # nobody is left who would read what comes of the work that is under way

    threading.Thread(target=listen, daemon=True).start()
    work, shared = pickle.loads(waiting.get())
    with one_blas_thread():
        while True:
            item = pickle.loads(waiting.get())
            try:
                told = (True, work(shared, item))
            except Exception as error:  # raised again where the work was asked for
                told = (False, error)
            _write(taken, told)


def _main() -> None:
    """What others print or read must not come between: work and results have pipes of their own."""
    with os.fdopen(os.dup(1), "wb") as taken, os.fdopen(os.dup(0), "rb") as given:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        _serve(given, taken)


if __name__ == "__main__":
    _main()
