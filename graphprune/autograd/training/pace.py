"""Batch, rate and number of steps, found by a few steps of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphprune.autograd.training.lesson import EPOCHS, Lesson, Watch
from graphprune.autograd.training.setting import LOOKS, Asked, Pace

RATES = (1e-3, 2e-3, 5e-4, 4e-3, 2e-4)
"""In the order in which they are tried."""
TRIAL, TAIL = 16, 6
"""Steps of a trial of a rate, and how many of the last of them are judged."""
SHARE = 0.15
"""Share of the time that finding the pace may take."""
BATCH, LARGEST = 8, 32
CHEAP = 1.4
"""A batch twice as large is taken where its step takes no more than this many times as long."""


@dataclass(frozen=True)
class _Step:
    """What a step costs: seconds of it, and of each answer of the dense model that is not known yet."""

    own: float
    answer: float


def find_pace(lesson: Lesson, asked: Asked, watch: Watch) -> Pace:
    """What is asked, and what is not, found: leaves the weights as they are.

    Args:
        lesson: that is to be trained.
        asked: what is given.
        watch: runs since the training began.
    """
    batch = asked.batch or _batch(lesson)
    if asked.steps is not None and asked.rate is not None:
        return Pace(asked.steps, batch, asked.rate)
    allowed = watch() + SHARE * asked.seconds if asked.steps is None else math.inf
    rates = RATES if asked.rate is None else (asked.rate,)
    lost: dict[float, float] = {}
    for rate in rates:
        lost[rate] = _trial(lesson, rate, batch)
        if watch() > allowed:
            break
    rate = min(lost, key=lambda each: (lost[each], each))
    if asked.steps is not None:
        return Pace(asked.steps, batch, rate)
    return Pace(_steps(lesson, asked, watch, batch), batch, rate)


def _trial(lesson: Lesson, rate: float, batch: int) -> float:
    """The mean loss of the last steps of a short training."""
    optimiser = lesson.optimiser(rate)
    losses = []
    for number in range(TRIAL):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, 3 * (number + 1) / TRIAL)
        losses.append(lesson.step(optimiser, batch, number))
    lesson.reset()
    mean = sum(losses[-TAIL:]) / TAIL
    return mean if math.isfinite(mean) else math.inf


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


def _steps(lesson: Lesson, asked: Asked, watch: Watch, batch: int) -> int:
    """As many as the time that is left has room for, looks at the selection part included."""
    each = _seconds(lesson, batch)
    look = Watch()
    lesson.selected(lesson.weights.leaves)
    left = asked.seconds - watch() - (LOOKS + 1) * look()
    answer, new = lesson.teacher.seconds, EPOCHS * len(lesson.draws)
    steps = left / (each + batch * answer)
    if steps * batch > new:
        steps = (left - new * answer) / each
    return max(1, int(steps))
