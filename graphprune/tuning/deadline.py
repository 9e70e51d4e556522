"""When the answer is due: work under way then is left, wherever it is at."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTimeError(BaseException):
    """The answer is due: unwinds the stack, so that nothing that was under way takes it for a failure."""


def require_time(due: float | None) -> None:
    """What is called while work goes on, such as progress.

    Raises:
        OutOfTimeError: it is later than that by the monotonic clock; never where that is None.
    """
    if due is not None and time.monotonic() > due:
        raise OutOfTimeError("the answer is due")


@contextmanager
def left_at(due: float | None) -> Iterator[None]:
    """Ends the block at a time, by an alarm of the system.

    Where there is none to be had (other systems, other threads than the main one, an alarm that is
    somebody else's) work ends at its next call of `require_time`.

    Args:
        due: when, by the monotonic clock; None for never.

    Raises:
        OutOfTimeError: in the block, once.
    """
    require_time(due)
    if due is None or not _has_alarm():
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, max(due - time.monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _has_alarm() -> bool:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return False
    free = signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    return free and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def _ring(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError("the answer is due")
