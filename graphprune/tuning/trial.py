"""One candidate: what was asked for, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from graphprune.document import Document
from graphprune.pipeline.report import Json, plain
from graphprune.tuning.goal import Figures, Goal
from graphprune.tuning.ways import DENSE

Level = Literal["quick", "full"]
QUICK: Level = "quick"
FULL: Level = "full"


@dataclass(frozen=True)
class Asked:
    """A candidate to be tried.

    Attributes:
        way: name of how it is made.
        left: share of the multiply-adds that is to be left, about.
        level: quick ones are repaired on few samples, and are never the result.
        seconds: that a training may take, where there is one.
    """

    way: str
    left: float
    level: Level = FULL
    seconds: float = 0.0


@dataclass(frozen=True)
class Loss:
    """What was lost on the samples that candidates are chosen by: a drop, or how far a metric fell.

    Attributes:
        value: the estimate.
        low: end of its 95 % interval.
        high: the other end.
        error: standard error.
        where: the output, or the metric.
    """

    value: float
    low: float
    high: float
    error: float
    where: str = ""

    @property
    def cautious(self) -> float:
        """What a bound is held against: one standard error worse than the estimate."""
        return self.value + self.error if math.isfinite(self.error) else math.inf


@dataclass(frozen=True)
class Trial:
    """A candidate and what came of it.

    Attributes:
        number: in the order in which results were told.
        asked: what it is.
        pipeline: its passes as text.
        figures: what it costs; None where nothing came of it.
        loss: likewise.
        seconds: that it took.
        why: why nothing came of it; empty otherwise.
    """

    number: int
    asked: Asked
    pipeline: str
    figures: Figures | None = None
    loss: Loss | None = None
    seconds: float = 0.0
    why: str = ""

    @property
    def made(self) -> bool:
        """Whether there is a model."""
        return self.figures is not None and self.loss is not None

    def holds(self, bound: float) -> bool:
        """Whether it may be the result, as far as the samples that choose can tell."""
        full = self.made and self.asked.level == FULL
        return full and self.loss is not None and self.loss.cautious <= bound

    def is_like(self, other: Trial) -> bool:
        """Whether both came to the same model, as far as figures tell."""
        return self.figures == other.figures and self.loss == other.loss

    def is_milder(self, others: Iterable[Trial]) -> bool:
        """Whether it loses less than each of these."""
        assert self.loss is not None
        return all(other.loss is not None and self.loss.value < other.loss.value for other in others)

    def to_json(self) -> Json:
        """As a line of the study holds it."""
        return plain(self)


def trial(told: Document) -> Trial:
    """From a line of the study.

    Raises:
        ArgumentError: it is damaged.
    """
    asked, made = told.part("asked"), told.content.get("figures") is not None
    level = asked.one("level", str)
    return Trial(
        number=told.one("number", int),
        asked=Asked(
            asked.one("way", str),
            asked.one("left", float),
            QUICK if level == QUICK else FULL,
            asked.one("seconds", float) if "seconds" in asked.content else 0.0,
        ),
        pipeline=told.one("pipeline", str),
        figures=_figures(told.part("figures")) if made else None,
        loss=_loss(told.part("loss")) if made else None,
        seconds=told.one("seconds", float),
        why=told.one("why", str),
    )


def _figures(told: Document) -> Figures:
    macs = None if told.content.get("macs") is None else told.one("macs", int)
    return Figures(told.one("latency", float), macs, told.one("params", int), told.one("bytes", int))


def _loss(told: Document) -> Loss:
    value, low, high = (told.one(name, float) for name in ("value", "low", "high"))
    error = math.inf if told.content.get("error") is None else told.one("error", float)
    return Loss(value, low, high, error, told.one("where", str))


WANTED, MILDER = 3, 4
"""Candidates that are timed at the end, and milder ones in case none of these keeps to the bound."""
SAME = 0.01
"""Shares of multiply-adds that differ by a smaller part of themselves ask for the same."""


@dataclass(frozen=True)
class History:
    """Trials so far, in their order, and what they are held against.

    Attributes:
        goal: what is searched for.
        bound: the most that may be lost.
        dense: what the model costs as it was given.
        trials: told results.
    """

    goal: Goal
    bound: float
    dense: Figures
    trials: tuple[Trial, ...] = ()

    def told(self, found: Trial) -> History:
        """With one more."""
        return replace(self, trials=(*self.trials, found))

    def of(self, way: str, level: Level | None = None) -> tuple[Trial, ...]:
        """Those of one way."""
        mine = (each for each in self.trials if each.asked.way == way)
        return tuple(each for each in mine if level is None or each.asked.level == level)

    def has(self, asked: Asked) -> bool:
        """Whether a candidate was tried, or one so close to it that its cuts are the same."""
        near = (each.asked.left for each in self.of(asked.way, asked.level))
        return any(abs(left - asked.left) < SAME * asked.left for left in near)

    def share(self, found: Trial) -> float:
        """What a candidate leaves of the cost."""
        assert found.figures is not None
        return self.goal.share(found.figures, self.dense)

    @property
    def holding(self) -> tuple[Trial, ...]:
        """Those that may be the result, the one that is wanted most first."""
        held = (each for each in self.trials if each.holds(self.bound))
        return tuple(sorted(held, key=self.rank))

    @property
    def last(self) -> tuple[Trial, ...]:
        """Cuts that may be the result, alike ones once: those wanted most, then ever milder ones."""
        found = list[Trial]()
        for each in self.holding:
            new = each.asked.way != DENSE and not any(each.is_like(other) for other in found)
            if new and (len(found) < WANTED or each.is_milder(found)):
                found.append(each)
        return tuple(found[: WANTED + MILDER])

    def rank(self, found: Trial) -> tuple[float, float, int]:
        """The least cost first; with bounds those that meet them, the least loss first."""
        assert found.loss is not None
        share = self.share(found)
        if not self.goal.bounds:
            return share, found.loss.cautious, found.number
        return max(1.0, share), found.loss.cautious, found.number

    @property
    def front(self) -> tuple[Trial, ...]:
        """Candidates that none beats in both cost and loss, the dearest first."""
        best, found = math.inf, list[Trial]()
        made = [each for each in self.trials if each.made and each.asked.level == FULL]
        for each in sorted(made, key=lambda one: (self.share(one), one.loss.value if one.loss else 0.0)):
            assert each.loss is not None
            if each.loss.value < best:
                best = each.loss.value
                found.append(each)
        return tuple(reversed(found))
