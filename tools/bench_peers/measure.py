"""CPU seconds and private memory of one region of code, on Linux."""

from __future__ import annotations

import gc
import resource
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.005


@dataclass(frozen=True)
class Region:
    """What one region cost.

    Attributes:
        cpu: CPU seconds of this process and of the children it waited for, user and system.
        before: private megabytes (anonymous resident pages) when the region began.
        peak: largest private megabytes seen in the region.
        whole: the same with the phases that are no part of the region (a proof) included.
    """

    cpu: float
    before: float
    peak: float
    whole: float


def cpu_seconds() -> float:
    """User and system seconds of this process and its finished children."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def private_megabytes() -> float:
    """Anonymous resident memory: what mmapped files and the page cache do not count into."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Sampler:
    """Watches private memory from a thread; it costs CPU, so memory and time take separate runs."""

    def __init__(self) -> None:
        self.peak = self.whole = private_megabytes()
        self.paused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _look(self) -> None:
        now = private_megabytes()
        self.whole = max(self.whole, now)
        if not self.paused:
            self.peak = max(self.peak, now)

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._look()

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of one call, after a collection so that no earlier garbage is charged to it."""
    gc.collect()
    start = cpu_seconds()
    work()
    return cpu_seconds() - start


def memory_of(work: Callable[[Sampler], object], cpu: float) -> Region:
    """One more run that samples memory; `work` may pause the sampler."""
    gc.collect()
    before = private_megabytes()
    with Sampler() as sampler:
        work(sampler)
    return Region(cpu, before, sampler.peak, sampler.whole)


def best_of(prepare: Callable[[], Callable[[], object]], repetitions: int) -> Region:
    """The fastest of several runs, then one more that samples memory; `prepare` is outside the region.

    Args:
        prepare: makes a fresh state and returns the region to run on it.
        repetitions: timed runs; the first warms caches like any other.
    """
    cpu = min(timed(prepare()) for _ in range(repetitions))
    work = prepare()
    return memory_of(lambda _: work(), cpu)
