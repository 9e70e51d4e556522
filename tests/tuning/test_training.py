"""What is trained, and for how long, follows from the time that is left."""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import replace

import pytest

from graphprune.document import Document
from graphprune.tuning.case import Case
from graphprune.tuning.goal import Figures, parse
from graphprune.tuning.search import Search, steps_of
from graphprune.tuning.trial import Asked, History, Loss, Trial, trial
from graphprune.tuning.ways import BY_NAME, WAYS, trained

from .conftest import Make

OBSPA = BY_NAME["obspa"]
FIGURES = Figures(1.0, 1000, 1000, 4000)
LOSS = Loss(0.0, 0.0, 0.0, 0.0, "y")
CUT = Trial(1, Asked("obspa", 0.5), "obspa(macs=0.5)", FIGURES, LOSS, seconds=10.0)


def told(steps: int) -> Trial:
    """A candidate that was trained in so many steps."""
    text = f"obspa(macs=0.4), recover(time=40s, steps={steps}, batch=8, rate=0.001)"
    return Trial(2, Asked("obspa+recover", 0.4, seconds=40.0), text, FIGURES, LOSS)


@pytest.fixture
def begun(search: Make, monkeypatch: pytest.MonkeyPatch) -> Search:
    """A search by time, where there is torch."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return search(None)


def seconds(search: Search, left: float, *trials: Trial, target: str = "latency") -> float:
    """Of the next training, with so many seconds left."""
    search.due = time.monotonic() + left
    return search._training(History(parse(target), 0.01, FIGURES, (CUT, *trials)), OBSPA)


@pytest.mark.parametrize(("left", "expected"), [(210, 100), (60, 50), (30, 0), (2000, 300)])
def test_a_training_takes_half_of_what_is_left(begun: Search, left: float, expected: float) -> None:
    assert seconds(begun, left) == pytest.approx(expected, abs=1)


def test_a_training_of_few_steps_is_the_last_unless_there_is_more_time(begun: Search) -> None:
    assert seconds(begun, 150, told(100)) > 0
    assert seconds(begun, 150, told(1)) == 0
    assert seconds(begun, 400, told(1)) > 0
    assert seconds(begun, 150, replace(told(100), pipeline="obspa(macs=0.4), recover(time=40s)")) == 0


def test_nothing_is_trained_by_steps_or_under_bounds(begun: Search) -> None:
    assert seconds(begun, 210, target="macs=0.5") == 0
    begun.due = None
    assert begun._training(History(parse("latency"), 0.01, FIGURES, (CUT,)), OBSPA) == 0


def test_nothing_is_trained_without_torch(begun: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert seconds(begun, 210) == 0


def test_every_way_can_be_trained() -> None:
    for way in WAYS:
        text = BY_NAME[trained(way).name].pipeline(0.5, 40)
        assert text == f"{way.pipeline(0.5)}, recover(time=40s)"
    assert steps_of(told(7)) == 7


def test_lines_of_older_studies_are_read() -> None:
    line = told(7).to_json()
    assert isinstance(line, dict)
    assert trial(Document(line, "a line")) == told(7)
    asked = dict(line["asked"])  # type: ignore[arg-type]
    del asked["seconds"]
    assert trial(Document({**line, "asked": asked}, "a line")).asked.seconds == 0


def test_a_training_has_every_other_turn_in_the_later_part_of_the_time(
    begun: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Case, "seconds", 1e-3)
    cuts = History(parse("latency"), 0.01, FIGURES, (CUT,))
    now = time.monotonic()
    begun.start, begun.due = now - 10, now + 100
    assert begun._worth_waiting(cuts) == math.inf
    begun.start = now - 200
    assert begun._worth_waiting(cuts) == 20
    assert begun._worth_waiting(cuts.told(told(100))) == math.inf
    assert begun._worth_waiting(cuts.told(told(100)).told(replace(CUT, number=3))) == 20


def test_open_brackets_wait_for_a_training(begun: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_room", lambda search, history: 0.0)
    monkeypatch.setattr(Case, "seconds", 1e-3)
    lost = replace(CUT, asked=Asked("latency", 0.5), loss=Loss(0.1, 0.1, 0.1, 0.0, "y"))
    history = History(parse("latency"), 0.01, FIGURES, (CUT, lost))
    now = time.monotonic()
    begun.start, begun.due = now - 10, now + 200
    assert all(not asked.seconds for asked in begun._proposed(history))
    begun.start = now - 300
    (asked,) = begun._proposed(history)
    assert asked.seconds > 0
    monkeypatch.setattr(Case, "seconds", 0.1)
    assert all(not asked.seconds for asked in begun._proposed(history))
