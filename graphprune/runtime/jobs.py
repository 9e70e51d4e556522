"""How much of the machine our own work takes: batches side by side, and BLAS at one thread for each.

Results must not depend on it. Sums that BLAS splits over threads would, hence one; batches are added in their
order, however many run at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS of the whole process has one thread meanwhile."""
    import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which can be limited once it is loaded)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
