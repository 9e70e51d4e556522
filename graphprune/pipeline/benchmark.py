"""Sizes and interleaved latency of several models, the first of them the baseline (`graphprune bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphprune.pipeline import measure
from graphprune.pipeline.opened import load_to_run
from graphprune.pipeline.report import Size
from graphprune.pipeline.samples import Given, feeds_for, with_shapes
from graphprune.pipeline.settings import Timing


@dataclass(frozen=True)
class ModelBench:
    """One model: size, latency in milliseconds, and how many times as fast as the baseline it is.

    `verdict` is faster, slower, or no measurable difference; the interval is at 99 %.
    """

    name: str
    size: Size
    median_ms: float
    p10_ms: float
    wall_median_ms: float
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    verdict: str


@dataclass(frozen=True)
class Bench:
    """All models, measured in turn on the same inputs."""

    models: tuple[ModelBench, ...]
    threads: int
    rounds: int
    clock: str


def bench(
    models: Sequence[object],
    names: Sequence[str],
    inputs: Given,
    settings: Timing,
) -> Bench:
    """Measure models against the first.

    Raises:
        GraphpruneError: a model does not load or run.
    """
    from graphprune.runtime.latency import Subject
    from graphprune.runtime.latency import measure as time_models
    from graphprune.runtime.session import open_session

    opened = [load_to_run(model, settings) for model in models]
    loaded, (constants, *_) = [model for model, _ in opened], [held for _, held in opened]
    feeds = [feeds_for(model, inputs, settings, constants)[0] for model in loaded]
    settings = with_shapes(settings, inputs, *opened[0])
    sessions = [open_session(model, threads=settings.threads) for model in loaded]
    subjects = [Subject(*subject) for subject in zip(names, sessions, feeds, strict=True)]
    latency = time_models(subjects, run=settings.run)
    ratios = [None, *latency.ratios]
    rows = []
    for model, timing, ratio in zip(loaded, latency.timings, ratios, strict=True):
        rows.append(
            ModelBench(
                name=timing.name,
                size=measure.size_as_given(model, settings.shapes),
                median_ms=1e3 * timing.cpu_median,
                p10_ms=1e3 * timing.cpu_p10,
                wall_median_ms=1e3 * timing.wall_median,
                speedup=1 / ratio.value if ratio else None,
                speedup_low=1 / ratio.high if ratio else None,
                speedup_high=1 / ratio.low if ratio else None,
                verdict=ratio.verdict if ratio else "baseline",
            )
        )
    return Bench(tuple(rows), settings.threads, latency.rounds, latency.clock)
