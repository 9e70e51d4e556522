"""What is tuned: the model as given and in normal form, its samples in parts, and how loss is judged."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphprune.axes import analyse
from graphprune.errors import ArgumentError
from graphprune.ir.defaults import held
from graphprune.ir.fixed import fix_inputs
from graphprune.ir.load import Source, load
from graphprune.lowering.lower import lowered, opened
from graphprune.pipeline import fingerprint, measure, verdict
from graphprune.pipeline.onesample import one_sample
from graphprune.pipeline.opened import Opened, open_model
from graphprune.pipeline.samples import Given, read_sets
from graphprune.runtime.dimensions import data_inputs
from graphprune.runtime.holding import count, digest
from graphprune.runtime.session import open_session
from graphprune.tuning.denormals import NO_DENORMALS, Denormals, many, without
from graphprune.tuning.finals import Timer
from graphprune.tuning.goal import Figures, parse
from graphprune.tuning.judge import DropJudge, Judge
from graphprune.tuning.metrics import MetricJudge, read_labels
from graphprune.tuning.parts import RUNS, Parts, divide
from graphprune.tuning.scores import SCORES
from graphprune.tuning.ways import Way, ways

if TYPE_CHECKING:
    import numpy as np

    from graphprune.axes import Analysis
    from graphprune.axes.outputs import UserKind
    from graphprune.pipeline.report import Size
    from graphprune.pipeline.settings import Tuning


BRIEF = 0.1
"""Seconds in which a run is timed, about."""
TIMING, TIMING_MOST = 0.04, 30.0
"""Share of the time that timing one of the last candidates may take, and the most seconds."""


@dataclass(frozen=True)
class Job:
    """What to tune.

    Attributes:
        model: as it was given.
        calibration: samples.
        output: where the result goes, if anywhere.
        also_read: files that are never written.
    """

    model: object
    calibration: Given
    output: Path | None = None
    also_read: tuple[Path, ...] = ()

    @property
    def source(self) -> str:
        """The model's path, or what it is."""
        given = self.model
        return os.fspath(given) if isinstance(given, str | os.PathLike) else type(given).__name__


@dataclass(frozen=True)
class Case:
    """What follows from a job, each worked out when it is first needed."""

    job: Job
    settings: Tuning

    @cached_property
    def source(self) -> Source:
        """The model as it was given."""
        return load(self.job.model, self.settings.limits)

    @cached_property
    def opened(self) -> Opened:
        """In normal form."""
        return open_model(self.job.model, self.settings)

    @property
    def model(self) -> ir.Model:
        """In normal form."""
        return self.opened.model

    @cached_property
    def lowered(self) -> ir.Model:
        """As candidates are lowered."""
        return lowered(self.model, opened("portable"))[0]

    @cached_property
    def analysis(self) -> Analysis:
        """What may shrink."""
        return analyse(self.model, sizes=self.opened.sizes)

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """How candidates may be made; times are for those who search for the fastest."""
        found, least = ways(self.analysis), parse(self.settings.target).least
        return tuple(way for way in found if least == "latency" or way.name != "latency")

    @cached_property
    def size(self) -> Size:
        """Of the model as it was given."""
        return measure.size(self.model, {**self.shapes, **self.settings.shape})

    def figures(self, seconds: float) -> Figures:
        """What the model costs as it was given, of which the latency was measured."""
        return Figures(seconds, self.size.macs, self.size.params, self.size.bytes)

    @cached_property
    def parts(self) -> Parts:
        """The samples by what they are for.

        Raises:
            ArgumentError: there are none.
            DataError: they do not fit the model, or are too few.
        """
        if self.job.calibration is None:
            raise ArgumentError(
                "tune needs samples: unlabelled inputs to repair on and to judge by",
                "give some: --calibration FILE (graphprune calibrate makes them of pictures or tokens)",
            )
        sets = read_sets(self.job.calibration, self.model, held(self.model))
        return divide(sets, self.model, self.settings.seed)

    @property
    def samples(self) -> tuple[int, int, int]:
        """How many there are to repair on, to choose by and to report on."""
        parts = self.parts
        return count(parts.repair, self.model), len(parts.selection), parts.reported

    @cached_property
    def feed(self) -> dict[str, np.ndarray]:
        """What is timed: one sample, at the sizes that multiply-adds are counted at."""
        given = next(self.parts.selection.feeds())
        settings = replace(self.settings, shape={**self.shapes, **self.settings.shape})
        return one_sample(self.model, settings, given, normal=True)

    @cached_property
    def seconds(self) -> float:
        """How long one run of the model takes, about."""
        session = open_session(self.model, threads=self.settings.threads)
        session.run(self.feed)
        start, runs = time.monotonic(), 0
        while not runs or time.monotonic() - start < BRIEF:
            session.run(self.feed)
            runs += 1
        return (time.monotonic() - start) / runs

    @property
    def repair_seconds(self) -> float:
        """How long the runs of a repair take, about."""
        return RUNS * self.seconds * count(self.parts.repair, self.model)

    @property
    def spared_seconds(self) -> float:
        """How much of that a repair on few samples spares."""
        return self.repair_seconds - RUNS * self.seconds * count(self.parts.few, self.model)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample, for inputs that are no settings."""
        given = next(self.parts.selection.feeds())
        wanted = {value.name for value in data_inputs(self.model)}
        return {name: array.shape for name, array in given.items() if name in wanted}

    @cached_property
    def judge(self) -> Judge:
        """Says what is lost."""
        settings = self.settings
        if settings.metric is not None:
            labels = None if settings.labels is None else read_labels(Path(settings.labels))
            return MetricJudge(settings.metric, self.model, settings, labels)
        if settings.labels is not None:
            raise ArgumentError("labels are for a metric", f"name one: --metric {' or '.join(SCORES)}")
        return DropJudge(self.model, verdict.how_judged(self.model, self.opened.sizes, settings), settings)

    @cached_property
    def kinds(self) -> dict[str, UserKind]:
        """What candidates are told of outputs, besides what the user said."""
        judge = self.judge
        return judge.kinds(self.parts.selection) if isinstance(judge, DropJudge) else {}

    @cached_property
    def judged(self) -> Sequence[str]:
        """How loss is measured, output by output."""
        return self.judge.said(self.parts.selection)

    @cached_property
    def timer(self) -> Timer:
        """Times models against the file as given."""
        source, settings = self.source, self.settings
        fixed = fix_inputs(source.model.clone(), settings.fix) if settings.fix else {}
        seconds = min(TIMING_MOST, TIMING * settings.time)
        return Timer(source.path or source.model, fixed, self.model, self.feed, settings, seconds)

    @cached_property
    def denormals(self) -> Denormals:
        """Denormal weights, and what they cost here."""
        count = many(self.lowered)
        if not count:
            return NO_DENORMALS
        return Denormals(count, self.timer.ratio(without(self.lowered)) / self.timer.ratio(self.lowered))

    @property
    def about(self) -> dict[str, str]:
        """What a study is of; one of something else is not gone on with."""
        settings = self.settings
        return {
            "model": f"{fingerprint.structure(self.model)[:32]}{fingerprint.weights(self.model)[:32]}",
            "calibration data": digest([*self.parts.repair, *self.parts.selection.sets]),
            "seed": str(settings.seed),
            "target": settings.target,
            "max-drop": str(settings.max_drop),
            "batch": str(settings.batch),
            "metric": settings.metric or "",
        }
