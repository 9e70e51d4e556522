"""The last candidates, each timed alone against the file as given, and read once on the report part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphprune.errors import GraphpruneError, ModelError
from graphprune.pipeline import measure
from graphprune.pipeline.measure import Timed
from graphprune.tuning.deadline import OutOfTimeError, left_at
from graphprune.tuning.trial import Loss
from graphprune.tuning.tuned import Final

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.ir.arrays import Arrays
    from graphprune.pipeline.samples import Judging
    from graphprune.pipeline.settings import Tuning
    from graphprune.tuning.judge import Judge
    from graphprune.tuning.parts import Parts

    Models = Callable[[int], ir.Model]

BRIEF = 2.0
"""Seconds that a first measurement takes at most, about."""
LEAST = 0.5
"""Seconds that one is timed at least."""
GIVEN = -1
"""The number of the file as it was given."""
UNWANTED, SLOWER = "another is wanted more", "slower than the file as given"


@dataclass(frozen=True)
class Timer:
    """Times models against the file as given.

    Attributes:
        given: the file, or the model.
        fixed: inputs that became constants.
        normal: the normal form of the model.
        feed: one sample.
        settings: how they run.
        seconds: how long one is timed at most, about.
    """

    given: Path | ir.Model
    fixed: Arrays
    normal: ir.Model
    feed: Mapping[str, np.ndarray]
    settings: Tuning
    seconds: float

    def ratio(self, model: ir.Model) -> float:
        """How many times as long as a model the file as given takes, measured briefly."""
        from graphprune.runtime.latency import Subject
        from graphprune.runtime.latency import measure as measured
        from graphprune.runtime.session import open_session

        opened = [open_session(each, threads=self.settings.threads) for each in (model, self.given)]
        feeds = (self.feed, {**self.feed, **self.fixed})
        subjects = [Subject("", *each) for each in zip(opened, feeds, strict=True)]
        try:
            brief = min(BRIEF, self.seconds)
            found = measured(subjects, min_seconds=brief / 4, max_seconds=brief, run=self.settings.run)
        except ModelError:  # the file as given does not run
            return 1.0
        return found.ratios[0].value

    def final(self, number: int, model: ir.Model, most: float = math.inf) -> Final:
        """One model, in no more seconds, about, than that."""
        timed = Timed(self.given, self.fixed, self.normal, None, model)
        seconds = min(self.seconds, max(LEAST, most))
        found = measure.latency(timed, self.feed, self.settings, seconds)
        return Final(
            number,
            found.before_ms,
            found.after_ms,
            found.speedup,
            found.speedup_low,
            found.speedup_high,
            found.verdict,
        )


def timed(
    numbers: Sequence[int], models: Models, timer: Timer, fastest: bool, due: float | None = None
) -> tuple[Final, ...]:
    """Each alone, the fastest first where that is what is wanted.

    Args:
        numbers: of candidates, in the order in which they are wanted.
        models: of each by its number.
        timer: times one.
        fastest: whether measured latency decides.
        due: when this is over, by the monotonic clock: what is under way then is left, but one is timed
            in any case.
    """
    found: list[Final] = []
    for at, number in enumerate(numbers):
        most = _left(due) / (len(numbers) - at)
        try:
            with left_at(due if found else None):
                found.append(timer.final(number, models(number), most))
        except OutOfTimeError:
            break
    return tuple(sorted(found, key=lambda each: each.after_ms / each.before_ms)) if fastest else tuple(found)


@dataclass(frozen=True)
class Terms:
    """What the result has to keep to.

    Attributes:
        bound: the most that may be lost.
        models: of each candidate by its number; that of 0 is the lowered model.
        timer: times models.
        judge: says what is lost.
        parts: the samples.
        slower: whether one that is slower than the file as given may be the result.
        due: when the answer is, by the monotonic clock.
    """

    bound: float
    models: Models
    timer: Timer
    judge: Judge
    parts: Parts
    slower: bool
    due: float | None = None

    def judged(self, final: Final, rest: Judging) -> Final:
        """With what it loses on the rest of the samples, or why it is not the result."""
        if final.verdict == "slower" and not self.slower:
            return replace(final, why=SLOWER)
        lost = _lost(self.judge, self.models(final.number), rest)
        if lost is None or lost.value > self.bound:
            said = "cannot be judged" if lost is None else f"loses {lost.value:.3f}"
            return replace(final, reported=lost, why=f"on the report part it {said}")
        return replace(final, reported=lost)

    def milder(self, numbers: Sequence[int], rest: Judging) -> Final | None:
        """The first of these that keeps to the bound and is not slower; None where the answer is due."""
        with suppress(OutOfTimeError), left_at(self.due):
            for number in numbers:
                lost = _lost(self.judge, self.models(number), rest)
                if lost is None or lost.value > self.bound:
                    continue
                found = self.timer.final(number, self.models(number), _left(self.due))
                if found.verdict != "slower" or self.slower:
                    return replace(found, reported=lost)
        return None


def decided(finals: Sequence[Final], milder: Sequence[int], terms: Terms) -> tuple[tuple[Final, ...], int]:
    """Reads the report part once; the first that keeps to the bound there, too, is the result.

    Where no final does, milder candidates follow, and at last the lowered model. Beside a result that is
    timed only where there is time.

    Args:
        finals: in the order in which they are wanted.
        milder: numbers of candidates that lose less and less.
        terms: what the result has to keep to.

    Returns:
        What was timed, with what it lost and why it is not the result; and the number of the result.
    """
    rest = terms.parts.report()
    told: list[Final] = []
    chosen: int | None = None
    for each in finals:
        found = replace(each, why=UNWANTED) if chosen is not None else terms.judged(each, rest)
        chosen = each.number if not found.why else chosen
        told.append(found)
    if chosen is None and (mild := terms.milder(milder, rest)) is not None:
        chosen = mild.number
        told.append(mild)
    timer, models, due = terms.timer, terms.models, terms.due
    if chosen is None:
        lowered = timer.final(0, models(0), _left(due))
        if lowered.verdict == "slower" and not terms.slower:
            return (*told, replace(lowered, why=SLOWER)), GIVEN
        return (*told, replace(lowered, reported=_lost(terms.judge, models(0), rest))), 0
    with suppress(OutOfTimeError), left_at(due):
        told.append(replace(timer.final(0, models(0), _left(due)), why=UNWANTED))
    return tuple(told), chosen


def _left(due: float | None) -> float:
    return math.inf if due is None else due - time.monotonic()


def _lost(judge: Judge, model: ir.Model, judging: Judging) -> Loss | None:
    try:
        return judge.loss(model, judging)
    except GraphpruneError:
        return None
