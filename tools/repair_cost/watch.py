"""Memory of the layers that a compile scores and repairs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from graphprune.prune import criteria
from graphprune.prune.repair import sequential

SECONDS = 0.02


def anonymous() -> int:
    """Bytes of this process that lie in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


class Layers:
    """The most that any layer needed beside what was there before it, and its own weight."""

    def __init__(self) -> None:
        self.most = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks on while Groups are scored and Sites are repaired."""
        obs, solve = criteria.CRITERIA["obs"], sequential._Sequence._solve

        def score(group, evidence):  # type: ignore[no-untyped-def]
            weights = [sink.site.weight for sink in evidence.places.sinks(group)]
            return self._during(lambda: obs.score(group, evidence), max(map(_bytes, weights), default=0))

        def repair(sequence, segment, group):  # type: ignore[no-untyped-def]
            self._during(lambda: solve(sequence, segment, group), _bytes(group[0].site.weight))

        with (
            mock.patch.dict(criteria.CRITERIA, {"obs": replace(obs, score=score)}),
            mock.patch.object(sequential._Sequence, "_solve", repair),
        ):
            yield

    def _during(self, work: Callable[[], object], own: int) -> object:
        start, over = anonymous(), threading.Event()
        peak = start

        def look() -> None:
            nonlocal peak
            while not over.wait(SECONDS):
                peak = max(peak, anonymous())

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            return work()
        finally:
            over.set()
            watcher.join()
            self.most = max(self.most, peak - start - own)


def _bytes(weight: object) -> int:
    tensor = getattr(weight, "const_value", None)
    return 0 if tensor is None else int(tensor.nbytes)
