"""What outputs lost, as facts for a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphprune.pipeline import histogram
from graphprune.pipeline.report import AgreementReport, Interval, OutputDrop, SampleDrift
from graphprune.pipeline.samples import Judging

if TYPE_CHECKING:
    from graphprune.runtime.drop import Drop
    from graphprune.runtime.estimate import Estimate

WORST = 5
"""Samples that are named."""


def told(found: tuple[Drop, ...], judging: Judging, providers: tuple[str, ...]) -> AgreementReport:
    """Drops as facts for a report; the worst output comes first into the headline."""
    worst = max((each for each in found if each.drop), key=lambda each: _value(each.drop), default=None)
    samples = len(judging)
    numbers = judging.numbers or range(samples)
    return AgreementReport(
        samples=samples,
        source=judging.source,
        measured=judging.source != "generated",
        output=worst.name if worst else "",
        drop=interval(worst.drop) if worst else None,
        outputs=tuple(_output(each, numbers) for each in found),
        providers=providers,
    )


def _value(estimate: Estimate | None) -> float:
    return estimate.value if estimate is not None else -1.0


def interval(estimate: Estimate | None) -> Interval | None:
    """An estimate as a report has it."""
    return None if estimate is None else Interval(estimate.value, estimate.low, estimate.high)


def _output(found: Drop, numbers: Sequence[int]) -> OutputDrop:
    label, worst = found.worst if found.worst is not None else ("", None)
    drifts = np.asarray(found.drifts or found.drops, np.float64)
    edges = histogram.edges(drifts) if drifts.size == len(numbers) else np.empty(0)
    return OutputDrop(
        name=found.name,
        kind=found.kind,
        drop=interval(found.drop),
        top1=interval(found.top1),
        worst_class=str(label),
        worst_class_top1=worst.value if worst is not None else None,
        constant_top1=found.constant,
        cosine=found.cosine,
        dead=found.dead,
        note=found.note,
        missing=found.missing,
        extra=found.extra,
        worst_class_interval=interval(worst),
        drift=math.sqrt(found.error.value) if found.error is not None else None,
        worst=_worst(found, numbers),
        edges=tuple(edges.tolist()),
        counts=histogram.counts(drifts, edges),
    )


def _worst(found: Drop, numbers: Sequence[int]) -> tuple[SampleDrift, ...]:
    """The samples that lost most, then those that moved most; none where they ran several at a time."""
    drops, drifts = (_full(each, len(numbers)) for each in (found.drops, found.drifts))
    rows = [SampleDrift(*each) for each in zip(numbers, drops, drifts, strict=True)]
    moved = [row for row in rows if row.drop or row.drift]
    return tuple(sorted(moved, key=lambda row: (-(row.drop or 0.0), -(row.drift or 0.0), row.sample))[:WORST])


def _full(values: Sequence[float], samples: int) -> Sequence[float | None]:
    """One value per sample; None where there is none."""
    if len(values) != samples:
        return [None] * samples
    return [None if math.isnan(value) else value for value in values]
