"""Sizes and latency of models, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.ops import record_of
from graphprune.pipeline.alike import fitting
from graphprune.pipeline.opensizes import open_sizes
from graphprune.pipeline.report import LatencyReport, Size
from graphprune.pipeline.settings import Timing

if TYPE_CHECKING:
    from graphprune.ir.shapes import Sizes


def size(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], sizes: Sizes | None = None) -> Size:
    """Parameters, multiply-adds and bytes of a model in normal form; `sizes` if they are at hand."""
    from graphprune.axes.cost import cost

    result = cost(model, shapes, sizes)
    return Size(result.params, result.macs, result.bytes, open_sizes(model, result.inputs, shapes))


def size_as_given(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Size:
    """The same of any model; it is counted in normal form, like one that is pruned."""
    from graphprune.ir.normalise import normalise

    own = model.clone()
    return size(own, shapes, normalise(own, record_of))


def latency(
    before: ir.Model, after: ir.Model, feed: Mapping[str, np.ndarray], settings: Timing
) -> LatencyReport:
    """Interleaved runs of two models on one input, or on one each where a cut changed its shape."""
    from graphprune.runtime.latency import Subject, measure
    from graphprune.runtime.providers import together
    from graphprune.runtime.session import open_session

    feeds = (feed, fitting(feed, after, settings))  # a cut may have narrowed caches, or taken them
    subjects = [
        Subject(name, open_session(model, threads=settings.threads, providers=settings.providers), given)
        for name, model, given in zip(("before", "after"), (before, after), feeds, strict=True)
    ]
    result = measure(subjects, run=settings.run)
    dense, pruned = result.timings
    ratio = result.ratios[0]
    return LatencyReport(
        before_ms=1e3 * dense.cpu_median,
        after_ms=1e3 * pruned.cpu_median,
        before_p10_ms=1e3 * dense.cpu_p10,
        after_p10_ms=1e3 * pruned.cpu_p10,
        speedup=1 / ratio.value,
        speedup_low=1 / ratio.high,
        speedup_high=1 / ratio.low,
        verdict=ratio.verdict,
        threads=settings.threads,
        rounds=result.rounds,
        clock=result.clock,
        providers=together(*(subject.session.providers for subject in subjects)),
    )
