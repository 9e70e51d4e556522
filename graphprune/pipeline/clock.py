"""CPU and wall seconds per phase of a compile, children included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TIMED = ("load", "normalise", "analyse", "decide", "rewrite", "lower", "check", "save")
"""The phases that a compile is compared by; proof and bench are reported beside them."""


@dataclass
class Clock:
    """Seconds spent in each phase; a phase inside another one counts only for itself."""

    cpu: dict[str, float] = field(default_factory=dict)
    wall: dict[str, float] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _mark: tuple[float, float] = (0.0, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time spent inside to a phase."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        now = (_cpu_seconds(), time.perf_counter())
        if self._open:
            name = self._open[-1]
            self.cpu[name] = self.cpu.get(name, 0.0) + now[0] - self._mark[0]
            self.wall[name] = self.wall.get(name, 0.0) + now[1] - self._mark[1]
        self._mark = now

    def timings(self) -> Timings:
        """What was measured so far."""
        return Timings(dict(self.cpu), dict(self.wall))


@dataclass(frozen=True)
class Timings:
    """CPU and wall seconds per phase."""

    cpu: dict[str, float]
    wall: dict[str, float]

    @property
    def compile_cpu(self) -> float:
        """CPU seconds of the timed region: load to save, without proof and bench."""
        return sum(self.cpu.get(name, 0.0) for name in TIMED)


def _cpu_seconds() -> float:
    times = os.times()
    # os.times() ticks at 10 ms; the process clock is finer, and children are only known in ticks.
    return time.process_time() + times.children_user + times.children_system
