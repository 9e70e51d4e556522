"""Sizes and latency of models, as the report shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.errors import ModelError
from graphprune.ir.arrays import Arrays
from graphprune.ops import record_of
from graphprune.pipeline.alike import fitting
from graphprune.pipeline.onesample import Shapes
from graphprune.pipeline.opensizes import open_sizes
from graphprune.pipeline.report import LatencyReport, Size, WorkTime
from graphprune.pipeline.settings import Settings, Timing

if TYPE_CHECKING:
    from graphprune.ir.shapes import Sizes
    from graphprune.runtime.latency import Subject
    from graphprune.runtime.session import Session

SECONDS, LEAST_SECONDS = 30.0, 1.0
"""How long latency is measured at most, about, and at least."""
TRACED = 0.5
"""Seconds that the traced runs of a model take together, about."""


def size(model: ir.Model, shapes: Shapes, sizes: Sizes | None = None, given: Shapes | None = None) -> Size:
    """Parameters, multiply-adds and bytes of a model in normal form.

    Args:
        model: in normal form.
        shapes: of inputs, to count multiply-adds at.
        sizes: if they are at hand.
        given: those of the shapes that the user gave, the others being assumed; None where they all are.
    """
    from graphprune.axes.cost import cost

    result = cost(model, shapes, sizes)
    assumed = open_sizes(model, result.inputs, shapes if given is None else given)
    return Size(result.params, result.macs, result.bytes, assumed)


def times(
    before: ir.Model,
    after: ir.Model,
    feed: Mapping[str, np.ndarray],
    settings: Timing,
    latency: LatencyReport | None = None,
) -> tuple[WorkTime, ...]:
    """How long each kind of work takes: the shares of traced runs, of the latency where it was measured."""
    from graphprune.runtime.profile import profile

    measured = (None, None) if latency is None else (latency.before_ms, latency.after_ms)
    feeds = (feed, fitting(feed, after, settings))
    spent = []
    for model, given, whole in zip((before, after), feeds, measured, strict=True):
        threads, providers = settings.threads, settings.providers
        found = profile(model, given, threads=threads, seconds=TRACED, run=settings.run, providers=providers)
        scale = (1e3 * found.seconds if whole is None else whole) / max(found.traced, 1e-9)
        spent.append(defaultdict[str, float](float))
        for node in found.nodes:
            spent[-1][node.work] += scale * node.seconds
    works = sorted(spent[0].keys() | spent[1].keys(), key=lambda work: (-spent[0][work], work))
    return tuple(WorkTime(work, spent[0][work], spent[1][work]) for work in works)


def size_as_given(model: ir.Model, shapes: Shapes, given: Shapes | None = None) -> Size:
    """The same of any model; it is counted in normal form, like one that is pruned."""
    from graphprune.ir.normalise import normalise

    own = model.clone()
    return size(own, shapes, normalise(own, record_of), given)


@dataclass(frozen=True)
class Timed:
    """What is timed: the file or model as it was given, the result, and the dense model lowered like it.

    Attributes:
        given: the model before; None where it does not run.
        fixed: inputs of it that became constants.
        normal: its normal form.
        dense: lowered, if the result is.
        after: the result.
    """

    given: Path | ir.Model | None
    fixed: Arrays
    normal: ir.Model
    dense: ir.Model | None
    after: ir.Model


def speed(
    timed: Timed, feed: Mapping[str, np.ndarray], settings: Settings, known: LatencyReport | None = None
) -> tuple[LatencyReport | None, tuple[WorkTime, ...], tuple[str, ...]]:
    """Latency, unless it is known, and where the time goes, as far as asked; why that could not be told."""
    found = known if known is not None or not settings.bench else latency(timed, feed, settings)
    if not settings.time:
        return found, (), ()
    settings.progress(0, 0, "trace where the time goes")
    try:
        return found, times(timed.normal, timed.after, feed, settings, found), ()
    except (
        ModelError
    ) as error:  # the runtime traces no model that it cannot write down, such as very large ones
        return found, (), (f"where the time goes could not be measured: {error.message}",)


def latency(
    timed: Timed, feed: Mapping[str, np.ndarray], settings: Timing, seconds: float = SECONDS
) -> LatencyReport:
    """Interleaved runs on one input, or on one each where a cut changed its shape; about so long at most.

    The result is the baseline of the measurement, so that both speed-ups come with their intervals.
    """
    from graphprune.runtime.latency import Ratio, Subject, measure
    from graphprune.runtime.providers import together

    subjects = [
        Subject("after", _opened(timed.after, settings), fitting(feed, timed.after, settings)),
        _before(timed, feed, settings),
    ]
    if timed.dense is not None:
        subjects.append(Subject("dense", _opened(timed.dense, settings), feed))
    least = min(LEAST_SECONDS, seconds)
    result = measure(subjects, run=settings.run, min_seconds=least, max_seconds=seconds)
    pruned, dense, *others = result.timings
    ratio = result.ratios[0]
    report = LatencyReport(
        before_ms=1e3 * dense.cpu_median,
        after_ms=1e3 * pruned.cpu_median,
        before_p10_ms=1e3 * dense.cpu_p10,
        after_p10_ms=1e3 * pruned.cpu_p10,
        speedup=ratio.value,
        speedup_low=ratio.low,
        speedup_high=ratio.high,
        verdict=Ratio("after", 1 / ratio.value, 1 / ratio.high, 1 / ratio.low).verdict,
        threads=settings.threads,
        rounds=result.rounds,
        clock=result.clock,
        providers=together(*(subject.session.providers for subject in subjects)),
    )
    if not others:
        return report
    cut = result.ratios[1]
    return replace(
        report,
        dense_ms=1e3 * others[0].cpu_median,
        cut_speedup=cut.value,
        cut_speedup_low=cut.low,
        cut_speedup_high=cut.high,
    )


def _opened(model: ir.Model | Path, settings: Timing) -> Session:
    from graphprune.runtime.session import open_session

    return open_session(model, threads=settings.threads, providers=settings.providers)


def _before(timed: Timed, feed: Mapping[str, np.ndarray], settings: Timing) -> Subject:
    """The model as it was given; its normal form where ONNX Runtime does not run that."""
    from graphprune.runtime.latency import Subject

    if timed.given is not None:
        given = {**feed, **timed.fixed}
        try:
            session = _opened(timed.given, settings)
            session.run(given, settings.timeout)
            return Subject("before", session, given)
        except ModelError:
            pass
    return Subject("before", _opened(timed.normal, settings), feed)
