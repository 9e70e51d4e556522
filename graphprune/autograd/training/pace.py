"""Batch, rate and number of steps, found by a few steps of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from graphprune.autograd.training.lesson import EPOCHS, Lesson, Watch
from graphprune.autograd.training.setting import Asked, Pace, looks

RATES = (5e-4, 1e-3, 2.5e-4, 2e-3, 1e-4)
"""In the order in which they are tried."""
TRIAL, GROW = 24, 6
"""Steps of a trial of a rate, and how many of the first of them grow to it."""
NEAR = 1.3
"""Times the least loss of all trials that the chosen rate may have."""
SHARE = 0.15
"""Share of the time that is left which finding the rate may take."""
SETTLED = 8
"""Turns in which steps and looks settle."""
BATCH, LARGEST = 8, 32
CHEAP = 1.4
"""A batch twice as large is taken where its step takes no more than this many times as long."""


def find_pace(lesson: Lesson, asked: Asked, watch: Callable[[], float]) -> Pace:
    """What is asked, and what is not, found: leaves the weights as they are.

    Args:
        lesson: that is to be trained.
        asked: what is given.
        watch: seconds of the time that are gone.
    """
    batch = asked.batch or _batch(lesson)
    if asked.steps is not None and asked.rate is not None:
        return Pace(asked.steps, batch, asked.rate)
    gone = watch()
    allowed = gone + SHARE * max(0.0, asked.seconds - gone) if asked.steps is None else math.inf
    rate = asked.rate or _rate(lesson, batch, lambda: watch() > allowed)
    return Pace(asked.steps or _steps(lesson, asked, watch, batch), batch, rate)


def _rate(lesson: Lesson, batch: int, enough: Callable[[], bool]) -> float:
    """The rate that a few steps of each recommend; the usual one where there is no time to try it."""
    lost: dict[float, float] = {}
    for rate in RATES:
        found = _trial(lesson, rate, batch, enough)
        if found is None:
            break
        lost[rate] = found
    return _chosen(lost, lesson) if lost else RATES[0]


def _chosen(lost: Mapping[float, float], lesson: Lesson) -> float:
    """The largest rate near the best that does no harm, if any does none: few steps flatter small ones."""
    least, before = min(lost.values()), lesson.selected(lesson.weights.rows)
    if not math.isfinite(least):
        return min(lost)
    bound = NEAR * least if least > before else min(NEAR * least, before)
    return max(rate for rate, each in lost.items() if each <= bound)


def _trial(lesson: Lesson, rate: float, batch: int, enough: Callable[[], bool]) -> float | None:
    """The loss on the selection part after a short training; None where there was not the time."""
    optimiser = lesson.optimiser(rate)
    for number in range(TRIAL):
        if enough():
            lesson.reset()
            return None
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (number + 1) / GROW)
        lesson.step(optimiser, batch, number)
    lost = lesson.selected(lesson.weights.rows)
    lesson.reset()
    return lost if math.isfinite(lost) else math.inf


def _batch(lesson: Lesson) -> int:
    """As many samples as hardly make a step longer; eight where samples run one by one."""
    most = len(lesson.draws)
    batch = min(BATCH, most)
    if not lesson.stack.several:
        return batch
    last = _seconds(lesson, batch)
    while 2 * batch <= min(LARGEST, most // 4):
        next_ = _seconds(lesson, 2 * batch)
        if next_ > CHEAP * last:
            break
        batch, last = 2 * batch, next_
    return batch


def _seconds(lesson: Lesson, batch: int, repeats: int = 3) -> float:
    """The least time of a step whose answers are known."""
    optimiser = lesson.optimiser(0.0)
    times = []
    for _ in range(repeats + 1):
        watch = Watch()
        lesson.step(optimiser, batch, 0)
        times.append(watch())
    lesson.reset()
    return min(times[1:])


def _steps(lesson: Lesson, asked: Asked, watch: Callable[[], float], batch: int) -> int:
    """As many as the time that is left has room for, looks at the selection part included."""
    each = _seconds(lesson, batch)
    look = Watch()
    lesson.selected(lesson.weights.rows)
    seconds = look()
    left, steps = asked.seconds - watch() - seconds, 1.0
    answer, new = lesson.teacher.seconds, EPOCHS * len(lesson.draws)
    for _ in range(SETTLED):  # how often is looked depends on the steps, and they on that
        rest = left - looks(steps, batch, len(lesson.selection)) * seconds
        steps = rest / (each + batch * answer)
        if steps * batch > new:
            steps = (rest - new * answer) / each
    return max(1, int(steps))
