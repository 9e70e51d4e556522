"""How much of the machine our own work takes: batches side by side, and BLAS at one thread for each.

Results must not depend on it. Sums that BLAS splits over threads would, hence one; batches are added in their
order, however many run at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_JOBS: ContextVar[int] = ContextVar("jobs", default=1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs() -> int:
    """How many batches may run side by side."""
    return _JOBS.get()


@contextmanager
def working(wanted: int | None) -> Iterator[None]:
    """Work with so many jobs, all cores if None; BLAS of the whole process has one thread meanwhile."""
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which can be limited once it is loaded)
    from threadpoolctl import threadpool_limits

    before = _JOBS.set(cores() if wanted is None else wanted)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        _JOBS.reset(before)
