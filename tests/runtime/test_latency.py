from __future__ import annotations

import numpy as np
import pytest

from graphprune.errors import ArgumentError, DataError, ModelError
from graphprune.runtime.latency import TURNS, Ratio, Subject, _is_narrow, in_turns, interval, measure
from graphprune.runtime.providers import CPU
from graphprune.runtime.session import Session, open_session

pytestmark = pytest.mark.timed


def chain(build, length: int) -> Session:
    steps = "".join(f"x{i + 1} = MatMul(x{i}, w) " for i in range(length))
    return open_session(build(f"(float[64,256] x0) => (float[64,256] x{length}) {{ {steps} }}", w=(256, 256)))


FEEDS = {"x0": np.zeros((64, 256), np.float32)}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.70, 0.80, "faster"),
        (1.20, 1.30, "slower"),
        (0.95, 1.05, "no measurable difference"),
        (0.80, 1.01, "no measurable difference"),
        (0.96, 0.98, "no measurable difference"),
        (1.02, 1.04, "no measurable difference"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, verdict):
    assert Ratio("m", (low + high) / 2, low, high).verdict == verdict


def test_the_interval_covers_the_median_of_noise():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        low, high = interval(np.exp(rng.normal(0, 0.1, 60)), seed)
        hits += low <= 1.0 <= high
    assert hits >= 93


def test_few_pairs_give_their_range():
    assert interval(np.array([1.0, 0.9, 1.2])) == (0.9, 1.2)


def test_noise_is_no_difference_and_a_real_one_is_found(build):
    subjects = [Subject("one", chain(build, 4), FEEDS), Subject("two", chain(build, 4), FEEDS)]
    subjects.append(Subject("double", chain(build, 8), FEEDS))
    result = measure(subjects, max_seconds=3)
    same, double = result.ratios
    assert same.verdict == "no measurable difference"
    assert double.verdict == "slower"
    assert 1.6 < double.value < 2.5
    assert double.low <= double.value <= double.high


def test_the_faster_model_is_called_faster(build):
    subjects = [Subject("long", chain(build, 8), FEEDS), Subject("short", chain(build, 4), FEEDS)]
    assert measure(subjects, max_seconds=2).ratios[0].verdict == "faster"


def test_timings_are_plausible(build):
    result = measure([Subject("only", chain(build, 2), FEEDS)], min_seconds=0, max_seconds=1)
    (timing,) = result.timings
    assert result.ratios == ()
    assert result.clock == "thread CPU"
    assert result.rounds >= 6
    assert 0 < timing.cpu_p10 <= timing.cpu_median < 1
    assert timing.wall_p10 <= timing.wall_median


def test_every_sample_follows_a_run_of_its_own_model(monkeypatch):
    ran = []

    class Recorded:
        threads, providers = 1, (CPU,)

        def __init__(self, name):
            self.name = name

        def run(self, feeds, timeout_s):
            ran.clear()

        def call(self, feeds):
            ran.append(self.name)

    def clock():
        ran.append("|")
        return len(ran) / 1e3

    monkeypatch.setattr("graphprune.runtime.latency.time.thread_time", clock)
    measure([Subject(name, Recorded(name), {}) for name in "AB"], rounds=6, min_seconds=0, sample_seconds=0)
    assert "".join(ran) == "AB" + 3 * "A|A| B|B| |B| A|A| B|B| A|A| |A| B|B|".replace(" ", "")


def test_a_steady_result_ends_early(build):
    subjects = [Subject("one", chain(build, 2), FEEDS)] * 2
    assert measure(subjects, rounds=1000, min_seconds=0, spread=10).rounds == 40


@pytest.mark.parametrize(
    ("low", "high", "narrow"),
    [
        (0.99, 1.01, True),
        (0.97, 1.02, False),
        (0.89, 0.93, False),
        (0.77, 0.80, True),
        (0.74, 0.80, False),
        (1.20, 1.23, True),
        (1.20, 1.25, False),
    ],
)
def test_an_interval_may_be_as_wide_as_a_fifth_of_the_difference_that_it_shows(low, high, narrow):
    assert _is_narrow(Ratio("m", (low + high) / 2, low, high), 0.021) == narrow


def test_a_clear_difference_ends_early_whatever_its_last_digits(monkeypatch):
    """Of a model that takes half as long, to 2 % a run, no round would tell more."""
    now, draw = [0.0], np.random.default_rng(0)

    class Steady:
        threads, providers = 1, (CPU,)

        def __init__(self, seconds):
            self.seconds = seconds

        def run(self, feeds, timeout_s):
            pass

        def call(self, feeds):
            now[0] += self.seconds * draw.normal(1, 0.02)

    monkeypatch.setattr("graphprune.runtime.latency.time.thread_time", lambda: now[0])
    pair = [Subject("whole", Steady(1.0), {}), Subject("half", Steady(0.5), {})]
    result = measure(pair, rounds=80, min_seconds=0, sample_seconds=0, spread=0)
    assert result.rounds == 40 and result.ratios[0].high > result.ratios[0].low


def test_bad_feeds_are_reported(build):
    with pytest.raises(DataError):
        measure([Subject("only", chain(build, 2), {})])


def test_thread_counts_must_agree(build):
    body = "(float[4] x) => (float[4] y) { y = Relu(x) }"
    feeds = {"x": np.zeros(4, np.float32)}
    subjects = [Subject(str(n), open_session(build(body), threads=n), feeds) for n in (1, 2)]
    with pytest.raises(ArgumentError):
        measure(subjects)
    with pytest.raises(ArgumentError):
        measure([])


class Taking:
    """A session that notes what it is fed."""

    threads, providers = 1, (CPU,)

    def __init__(self, refuses=False):
        self.called, self.refuses = [], refuses

    def run(self, feeds, timeout_s):
        if self.refuses and feeds is not GIVEN:
            raise ModelError("no")

    def call(self, feeds):
        self.called.append(feeds)


GIVEN = {
    "x": np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32),
    "ids": np.arange(100),
    "scale": np.ones(3, np.float32),
}


def test_runs_take_large_float_arrays_rolled_and_all_models_the_same():
    one, other = Taking(), Taking()
    measure(
        [Subject("a", one, GIVEN), Subject("b", other, GIVEN)], rounds=16, min_seconds=0, sample_seconds=0
    )
    seen = {feeds["x"].tobytes() for feeds in one.called}
    assert len(seen) == TURNS and seen == {feeds["x"].tobytes() for feeds in other.called}
    for feeds in one.called:
        assert sorted(feeds["x"].ravel()) == sorted(GIVEN["x"].ravel())
        assert feeds["ids"] is GIVEN["ids"] and feeds["scale"] is GIVEN["scale"]


def test_what_a_model_refuses_rolled_it_gets_as_it_is():
    strict, other = Taking(refuses=True), Taking()
    subjects = [Subject("a", strict, GIVEN), Subject("b", other, GIVEN)]
    measure(subjects, rounds=8, min_seconds=0, sample_seconds=0)
    assert all(feeds is GIVEN for feeds in strict.called + other.called)


def test_what_takes_long_is_not_run_again_and_again(monkeypatch):
    monkeypatch.setattr("graphprune.runtime.latency.TURNING_SECONDS", 0)
    assert len(in_turns(Subject("a", Taking(), GIVEN))) == 2


def test_turns_take_no_more_memory_than_they_may(monkeypatch):
    monkeypatch.setattr("graphprune.runtime.latency.TURNED_BYTES", 3 * GIVEN["x"].nbytes)
    assert len(in_turns(Subject("a", Taking(), GIVEN))) == 3
    monkeypatch.setattr("graphprune.runtime.latency.TURNED_BYTES", 1)
    assert len(in_turns(Subject("a", Taking(), GIVEN))) == 1
