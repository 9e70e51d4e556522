"""How a command runs: one value, made once and handed down to everything that draws, waits or takes long."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); total is 0 where it is not known."""


CPU_ALONE = ("cpu",)
"""The execution provider that every ONNX Runtime has, and that proofs, statistics and repair run on."""

SELDOM = (50_000, 20, 20)
"""New objects between two collections, and how many pass between two of what they left, and of what these
left: graphs are many small objects that stay (a quarter of `inspect`)."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for circles of objects seldom; what the caller had set comes back."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def short(provider: str) -> str:
    """What people call an execution provider: openvino for OpenVINOExecutionProvider."""
    return provider.lower().replace("executionprovider", "")


def silent(done: int, total: int, what: str) -> None:
    """Progress nobody watches."""


@dataclass(frozen=True)
class Run:
    """What our own work is done with; no result depends on anything but the seed.

    Attributes:
        seed: of everything drawn.
        jobs: batches that run side by side.
        timeout: seconds that one run of a model may take; None for any number.
        threads: of ONNX Runtime where a latency is measured, or what a runtime gives.
        progress: told how far the work is.
    """

    seed: int = 0
    jobs: int = 1
    timeout: float | None = None
    threads: int = 1
    progress: Progress = silent


USUAL = Run()
