"""Let a signal interrupt a critical stretch in an orderly way, or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from graphprune.errors import OutputError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupted(BaseException):
    """Unwinds the stack from a signal handler, past `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an exception inside the block, so that its cleanup runs.

    Afterwards the signal is delivered again to whoever handled it before; where that one carries on,
    an OutputError says that the block did not finish. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:  # a second signal must not stop the cleanup
            raise _Interrupted(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in ours:
            signal.signal(number, interrupt)
        yield
    except _Interrupted as stop:
        _restore(before, ours)
        signal.raise_signal(stop.number)
        name = signal.Signals(stop.number).name
        raise OutputError(f"interrupted by {name}", "nothing was written") from None
    finally:
        _restore(before, ours)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is over.

    Blocking them in this thread would not do: the system then hands them to another one, and Python
    still runs the handler here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in ours:
            signal.signal(number, lambda received, _: held.append(received))
        yield
    finally:
        _restore(before, ours)
        for received in dict.fromkeys(held):
            signal.raise_signal(received)


def _restore(before: dict[signal.Signals, signal._HANDLER], ours: list[signal.Signals]) -> None:
    for number in ours:
        signal.signal(number, before[number])
