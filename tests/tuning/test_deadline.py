"""The answer comes when it is due, whatever is under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphprune.ir.load import load
from graphprune.pipeline import compile as compiling
from graphprune.pipeline import measure
from graphprune.pipeline.result import Result
from graphprune.runtime.device import DeviceProfile
from graphprune.runtime.latency import LEVEL
from graphprune.tuning import predict
from graphprune.tuning.deadline import OutOfTimeError, left_at
from graphprune.tuning.finals import Final, Timer

from .conftest import Make, mlp

TIME = 5.0
LATE = 60.0
"""Seconds of a phase that tells nobody how far it is."""


def test_what_is_under_way_is_left() -> None:
    start = time.monotonic()
    with pytest.raises(OutOfTimeError), left_at(start + 0.05):
        time.sleep(LATE)
    assert time.monotonic() - start < 5


def test_what_is_done_in_time_is_not_disturbed_later() -> None:
    with left_at(time.monotonic() + 0.05):
        pass
    time.sleep(0.1)


def test_nothing_begins_when_it_is_late() -> None:
    begun = []
    with pytest.raises(OutOfTimeError), left_at(time.monotonic() - 1):
        begun.append(1)
    assert not begun


def test_other_threads_ask_progress() -> None:
    raised = []

    def work() -> None:
        with left_at(time.monotonic() + 0.01):
            time.sleep(0.05)
            raised.append(False)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == [False]


def test_a_candidate_that_never_ends_does_not_delay_the_answer(
    search: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(1, "warm.onnx").finish()
    whole, made = compiling.run, []

    def stuck(*args: object) -> Result:
        made.append(args)
        if len(made) > 1:
            time.sleep(LATE)
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(compiling, "run", stuck)
    start = time.monotonic()
    found = search(None, time=TIME, profile="warm.tune/profile.json").finish()
    assert time.monotonic() - start < LATE / 2
    assert len(made) == 2
    assert found.tried == 1
    assert any(line.startswith("time:") for line in found.stopped)
    load(Path("small.onnx"))
    assert not Path("small.tune/candidates/0001").exists()


def test_finals_that_never_end_are_left(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    search(1, "warm.onnx").finish()
    whole, timed = Timer.final, []

    def stuck(timer: Timer, number: int, *args: object) -> Final:
        timed.append(number)
        if len(timed) > 1:
            time.sleep(LATE)
        return replace(whole(timer, number, *args), verdict=LEVEL)  # type: ignore[arg-type]

    monkeypatch.setattr(Timer, "final", stuck)
    start = time.monotonic()
    found = search(None, time=TIME, max_drop=1.0, profile="warm.tune/profile.json").finish()
    assert time.monotonic() - start < LATE / 2
    assert len(timed) > 1
    assert [each.number for each in found.finals] == timed[:1]
    assert found.chosen == timed[0]


def test_one_is_timed_in_less_where_less_is_left(search: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    whole = measure.latency

    def noted(timed: object, feed: object, settings: object, seconds: float) -> object:
        seen.append(seconds)
        return whole(timed, feed, settings, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "latency", noted)
    search(1, "warm.onnx").finish()
    made = search(1, time=100.0, profile="warm.tune/profile.json")
    timer, model = made.case.timer, load(Path("model.onnx")).model
    seen.clear()
    timer.final(0, model, 1.0)
    timer.final(0, model, -5.0)
    assert np.allclose(seen, [1.0, 0.5])


def test_a_machine_that_takes_long_to_measure_is_measured_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict.measured

    def slow(*args: object) -> Iterator[tuple[DeviceProfile, int]]:
        yield next(whole(*args))  # type: ignore[arg-type]
        time.sleep(LATE)

    monkeypatch.setattr(predict, "measured", slow)
    model, feed = mlp(), {"x": np.ones((1, 6), np.float32)}
    start = time.monotonic()
    found = predict.predictor(model, feed, seconds=4.0, brief=0.1)
    assert time.monotonic() - start < LATE / 2
    assert found.profile.costs
    assert found.seconds(model, feed) > 0
