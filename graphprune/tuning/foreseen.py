"""What a search could gain and would cost, before minutes are spent on it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graphprune.errors import GraphpruneError
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import registry
from graphprune.pipeline.job import Job as CompileJob
from graphprune.tuning.case import Case
from graphprune.tuning.study import Study

if TYPE_CHECKING:
    from graphprune.pipeline.settings import Tuning
    from graphprune.tuning.case import Job

LEFT = (0.8, 0.6, 0.45, 0.3, 0.2)
"""Shares of the multiply-adds that are foreseen."""
PLAIN = "prune(macs={left}, criterion=l2, repair=none, io=fixed)"
SAMPLE = "obspa(macs=0.6, allocate=local, io=fixed)"
"""What tells how long a candidate takes."""


@dataclass(frozen=True)
class ForeseenPoint:
    """A cut by weight norms: shares that it leaves, and its predicted latency."""

    macs: float
    params: float
    latency_ms: float


@dataclass(frozen=True)
class Foreseen:
    """What a search could gain and would cost.

    Attributes:
        given_ms: latency of the file as given.
        points: cuts.
        ways: of making candidates that the model has something for.
        each: seconds that a candidate takes, about.
        seconds: that the search would take.
        candidates: that there would be time for.
    """

    given_ms: float
    points: tuple[ForeseenPoint, ...]
    ways: tuple[str, ...]
    each: float
    seconds: float
    candidates: int


def foresee(job: Job, settings: Tuning) -> Foreseen:
    """Cuts without data for the figures, and one candidate for what it costs; nothing is written.

    Raises:
        GraphpruneError: bad input.
    """
    start = time.monotonic()
    with TemporaryDirectory(prefix="graphprune") as folder:
        case = Case(replace(job, output=None), replace(settings, study=folder, resume=False, force=True))
        study = Study(case)
        study.prepare()
        given = study.measured.given
        points = [point for left in LEFT if (point := _point(study, left)) is not None] if case.ways else []
        each = _seconds(study) if case.ways else 0.0
    left = settings.time - (time.monotonic() - start)
    many = settings.steps or (max(0, int(left / each)) if each else 0)
    seconds = many * each if settings.steps else settings.time
    names = tuple(way.name for way in case.ways)
    return Foreseen(1e3 * given, tuple(points), names, each, seconds, many)


def _point(study: Study, left: float) -> ForeseenPoint | None:
    """None where the model cannot be cut so."""
    case = study.case
    job = CompileJob(case.job.model, registry.read(PLAIN.format(left=left)))
    try:
        found = compiling.run(job, study.maker.compile_settings)
    except GraphpruneError:
        return None
    size, dense = found.report.after, case.size
    macs = (size.macs or 0) / max(1, dense.macs or 1)
    return ForeseenPoint(macs, size.params / max(1, dense.params), 1e3 * study.seconds(found.model))


def _seconds(study: Study) -> float:
    """How long a candidate in full takes."""
    start = time.monotonic()
    job = CompileJob(
        study.case.job.model, registry.read(SAMPLE), calibration=Path(study.place.samples("repair"))
    )
    with suppress(GraphpruneError):
        compiling.run(job, study.maker.compile_settings)
    return time.monotonic() - start
