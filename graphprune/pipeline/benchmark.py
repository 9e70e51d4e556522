"""Sizes and interleaved latency of several models, the first of them the baseline (`graphprune bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from graphprune.ir.arrays import Arrays
from graphprune.pipeline import measure
from graphprune.pipeline.alike import common_feeds, require_alike
from graphprune.pipeline.onesample import Shapes
from graphprune.pipeline.opened import Ready, load_to_run
from graphprune.pipeline.report import Size
from graphprune.pipeline.samples import Given, timed_feed, with_shapes
from graphprune.pipeline.settings import Timing
from graphprune.shown import Shown

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from graphprune.runtime.latency import Latency, Ratio
    from graphprune.runtime.latency import Timing as Timed
    from graphprune.runtime.loading import Cost


@dataclass(frozen=True)
class ModelBench:
    """One model: size, latency in milliseconds, and how many times as fast as the baseline it is.

    `verdict` is faster, slower, or no measurable difference; the interval is at 99 %. `load_ms` is from the
    file to a session, `peak_bytes` the memory that this and one run took at most; null where nobody asked, or
    the system does not tell. `providers` are those that ran at least one node.
    """

    name: str
    size: Size
    file_bytes: int | None
    median_ms: float
    p10_ms: float
    wall_median_ms: float
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    verdict: str
    load_ms: float | None = None
    peak_bytes: int | None = None
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench(Shown):
    """All models, measured in turn on the same inputs."""

    models: tuple[ModelBench, ...]
    threads: int
    rounds: int
    clock: str
    generated: dict[str, int] = field(default_factory=dict)


def bench(
    models: Sequence[object],
    names: Sequence[str],
    inputs: Given,
    settings: Timing,
    loading: bool = True,
) -> Bench:
    """Measure models against the first; with `loading` what it costs to load each, too.

    Raises:
        GraphpruneError: a model does not load or run.
    """
    settings.progress(0, 0, "load")
    opened = [load_to_run(model, settings) for model in models]
    loaded = [each.model for each in opened]
    require_alike(loaded, names)
    feeds = _feeds(opened, inputs, settings)
    given = with_shapes(settings, inputs, loaded[0], opened[0].constants).shape
    latency, providers = _timed(names, loaded, feeds, settings)
    costs = _costs(opened, feeds, settings) if loading else [None for _ in opened]
    sizes = [_size(each, feed, given) for each, feed in zip(loaded, feeds, strict=True)]
    rows = zip(opened, sizes, latency.timings, [None, *latency.ratios], costs, providers, strict=True)
    found = tuple(_row(*row) for row in rows)
    return Bench(found, settings.threads, latency.rounds, latency.clock, sizes[0].assumed)


def _timed(
    names: Sequence[str], models: Sequence[ir.Model], feeds: Sequence[Arrays], settings: Timing
) -> tuple[Latency, list[tuple[str, ...]]]:
    """Models against the clock, and what ran each; no session stays open."""
    from graphprune.runtime.latency import Subject
    from graphprune.runtime.latency import measure as time_models
    from graphprune.runtime.session import open_session

    sessions = [
        open_session(model, threads=settings.threads, providers=settings.providers) for model in models
    ]
    settings.progress(0, 0, "measure")
    subjects = [Subject(*subject) for subject in zip(names, sessions, feeds, strict=True)]
    return time_models(subjects, run=settings.run), [session.providers for session in sessions]


def _costs(opened: Sequence[Ready], feeds: Sequence[Arrays], settings: Timing) -> Sequence[Cost]:
    """What it costs to load each model; what has no file gets one for it."""
    from graphprune.ir.save import save
    from graphprune.runtime.loading import Loaded, costs

    settings.progress(0, 0, "load alone")
    with TemporaryDirectory(prefix="graphprune") as folder:
        paths = [
            each.path or next(iter(save(each.model, Path(folder) / f"{at}.onnx", None)))
            for at, each in enumerate(opened)
        ]
        how = (settings.threads, settings.providers, settings.timeout)
        return costs([Loaded(path, given, *how) for path, given in zip(paths, feeds, strict=True)])


def _feeds(opened: Sequence[Ready], inputs: Given, settings: Timing) -> list[dict[str, np.ndarray]]:
    """One sample for each. Samples may repeat weights of the first; the others need not have the same."""
    models = [each.model for each in opened]
    if inputs is None:
        return common_feeds(models, settings)
    return [timed_feed(model, inputs, settings, opened[0].constants) for model in models]


def _size(model: ir.Model, feed: Arrays, given: Shapes) -> Size:
    """Counted at what it is timed at."""
    return measure.size_as_given(model, {name: array.shape for name, array in feed.items()}, given)


def _row(
    each: Ready,
    size: Size,
    timing: Timed,
    ratio: Ratio | None,
    cost: Cost | None,
    providers: tuple[str, ...],
) -> ModelBench:
    return ModelBench(
        name=timing.name,
        size=size,
        file_bytes=each.file_bytes,
        median_ms=1e3 * timing.cpu_median,
        p10_ms=1e3 * timing.cpu_p10,
        wall_median_ms=1e3 * timing.wall_median,
        speedup=1 / ratio.value if ratio else None,
        speedup_low=1 / ratio.high if ratio else None,
        speedup_high=1 / ratio.low if ratio else None,
        verdict=ratio.verdict if ratio else "baseline",
        load_ms=1e3 * cost.load_s if cost else None,
        peak_bytes=cost.peak_bytes if cost else None,
        providers=providers,
    )
