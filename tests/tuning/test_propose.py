"""Proposals follow from what was told, and close in on the amount at which as much is lost as may be."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from graphprune.tuning import propose
from graphprune.tuning.goal import Figures, Goal, parse
from graphprune.tuning.trial import FULL, QUICK, Asked, History, Loss, Trial
from graphprune.tuning.ways import WAYS

DENSE = Figures(1.0, 1000, 1000, 4000)
THREE = WAYS[1:4]
Curve = Callable[[str, float], float]


def told(asked: Asked, number: int, curve: Curve) -> Trial:
    """A trial whose loss a formula says."""
    lost = curve(asked.way, asked.left)
    figures = Figures(asked.left, round(1000 * asked.left), 1000, 4000)
    return Trial(number, asked, "", figures, Loss(lost, lost, lost, 0.0, "y"))


def followed(curve: Curve, steps: int, target: str = "latency") -> History:
    """A study of a formula."""
    history = History(parse(target), 0.01, DENSE)
    while len(history.trials) < steps:
        batch = propose.proposed(history, THREE, 2)
        if not batch:
            break
        for asked in batch:
            history = history.told(told(asked, len(history.trials), curve))
    return history


def cubic(way: str, left: float) -> float:
    """Each way loses more than the one before it."""
    factor = {"obspa": 1.0, "units": 1.5, "refit": 8.0}[way]
    return min(1.0, factor * 0.05 * (1 - left) ** 3)


def test_all_ways_are_tried_quickly_first() -> None:
    first = [trial.asked for trial in followed(cubic, 3).trials]
    assert [asked.way for asked in first] == [way.name for way in THREE]
    assert {asked.level for asked in first} == {QUICK}


@pytest.mark.parametrize("target", [0.3, 0.55, 0.8])
def test_the_bracket_closes_at_the_bound(target: float) -> None:
    def curve(way: str, left: float) -> float:
        return min(1.0, 0.01 * ((1 - left) / (1 - target)) ** 4)

    best = followed(curve, 30).holding[0]
    assert target <= best.asked.left <= propose.CLOSE * target


@pytest.mark.parametrize("step", [0.5, 0.25, 0.12, 0.07])
def test_a_step_is_found_in_few_candidates(step: float) -> None:
    def curve(way: str, left: float) -> float:
        return 0.0 if left > step else 0.02

    history = followed(curve, 40)
    assert len(history.of("obspa", FULL)) <= 8
    assert step < history.holding[0].asked.left <= propose.CLOSE * step


def test_where_quick_ones_take_as_long_all_ways_are_tried_in_full() -> None:
    """What quick ones told already says where those of the same way in full begin."""
    history = History(parse("latency"), 0.01, DENSE)
    for asked in propose.proposed(history, THREE, 2):
        history = history.told(told(asked, len(history.trials), cubic))
    after = propose.proposed(history, THREE, 3, brief=False)
    assert [(asked.way, asked.level) for asked in after] == [(way.name, FULL) for way in THREE]
    assert after[0].left < propose.FIRST == after[2].left
    for asked in after:
        history = history.told(told(asked, len(history.trials), cubic))
    following = propose.proposed(history, THREE, 2, brief=False)
    assert {asked.level for asked in following} == {FULL}
    assert {asked.way for asked in following} == {"obspa", "units"}


def test_behind_a_harmless_cut_the_next_goes_twice_as_far() -> None:
    def after(loss: float) -> float:
        history = History(parse("latency"), 0.01, DENSE)
        for level, left in ((QUICK, 0.6), (FULL, 0.5)):
            history = history.told(
                told(Asked("obspa", left, level), len(history.trials), lambda way, at: loss)
            )
        return propose.proposed(history, THREE[:1], 1)[0].left

    assert after(0.005) == pytest.approx(0.5 * propose.FURTHER)
    assert after(0.001) == pytest.approx(0.5 * propose.FURTHER**2)


def test_most_of_the_work_goes_to_what_promises_most() -> None:
    history = followed(cubic, 20)
    full = [trial for trial in history.trials if trial.asked.level == FULL]
    assert {trial.asked.way for trial in full} <= {"obspa", "units"}
    assert history.holding[0].asked.way == "obspa"


def test_it_comes_to_an_end() -> None:
    assert len(followed(cubic, 200).trials) < 60


def test_a_way_that_makes_nothing_is_left() -> None:
    history = History(Goal(), 0.01, DENSE)
    for number, way in enumerate(THREE):
        asked = Asked(way.name, propose.FIRST, QUICK)
        failed = Trial(number, asked, "", why="nothing to prune")
        history = history.told(failed if way.name == "obspa" else told(asked, number, cubic))
    assert {asked.way for asked in propose.proposed(history, THREE, 4)} == {"units", "refit"}


def test_bounds_are_met_and_not_overdone() -> None:
    history = followed(cubic, 20, "macs=0.5")
    best = next(trial for trial in history.holding if not history.goal.missed(trial.figures, DENSE))  # type: ignore[arg-type]
    assert 0.46 <= best.asked.left <= 0.5


def test_nothing_is_proposed_twice() -> None:
    trials = followed(cubic, 40).trials
    seen = {(trial.asked.way, trial.asked.level, round(trial.asked.left, 2)) for trial in trials}
    assert len(seen) >= 0.9 * len(trials)


def test_a_loss_without_a_standard_error_is_no_hold() -> None:
    one = told(Asked("obspa", 0.5), 0, cubic)
    unsure = Trial(0, one.asked, "", one.figures, Loss(0.0, 0.0, 1.0, math.inf, "y"))
    assert one.holds(0.01)
    assert not unsure.holds(0.01)


def taught(curve: Curve, rounds: int, gain: float) -> History:
    """A study whose brackets are closed, with trainings that divide the loss."""

    def lost(way: str, left: float) -> float:
        name = way.removesuffix("+recover")
        return curve(name, left) / (gain if name != way else 1.0)

    history = followed(curve, 40)
    for _ in range(rounds):
        way = propose.to_train(history, THREE)
        assert way is not None
        for asked in propose.beyond(history, way, 40.0):
            history = history.told(told(asked, len(history.trials), lost))
    return history


def test_what_is_trained_first_loses_somewhat_more_than_it_may() -> None:
    history = taught(cubic, 1, 1.0)
    first = history.trials[-1].asked
    assert first.way == "obspa+recover"
    assert 0.012 < cubic("obspa", first.left) < 0.03
    assert first.seconds == 40


def test_where_no_cut_in_full_went_too_far_quick_ones_say_how_fast_it_loses() -> None:
    history = History(parse("latency"), 0.01, DENSE)
    for level, left, lost in ((QUICK, 0.6, 0.04), (QUICK, 0.8, 0.015), (FULL, 0.9, 0.005)):
        history = history.told(
            told(Asked("obspa", left, level), len(history.trials), lambda way, at, x=lost: x)
        )
    (asked,) = propose.beyond(history, WAYS[1], 40.0)
    assert 0.6 < asked.left < 0.8


@pytest.mark.parametrize("gain", [1.5, 3.0])
def test_trainings_close_in_on_what_they_bring_back(gain: float) -> None:
    history = taught(cubic, 6, gain)
    best = history.holding[0]
    assert best.asked.way == "obspa+recover"
    assert cubic("obspa", best.asked.left) / gain > 0.8 * 0.01
    assert len(history.of("obspa+recover")) <= 6


def test_trainings_that_bring_nothing_back_end() -> None:
    history = taught(cubic, 6, 1.0)
    assert history.holding[0].asked.way == "obspa"
    assert len(history.of("obspa+recover")) <= 4


def test_where_no_cut_holds_the_one_that_loses_least_is_trained() -> None:
    history = taught(
        lambda way, left: min(1.0, {"obspa": 0.9, "units": 0.5, "refit": 2.0}[way] * (1 - left)), 4, 4.0
    )
    trained = [each for each in history.trials if each.asked.way.endswith("+recover")]
    assert {each.asked.way for each in trained} == {"units+recover"}
    assert history.holding[0] in trained


def test_behind_a_step_a_training_begins_a_little_further() -> None:
    history = taught(lambda way, left: 0.0 if left > 0.3 else 0.2, 1, 1.0)
    asked = history.trials[-1].asked
    assert asked.way.endswith("+recover")
    assert 0.25 < asked.left < 0.3
