"""Which of two models is faster, and whether the measurement can tell.

Rounds run every model forth and back (A B B A, then B A A B), so drift of the machine hits all alike,
and the ratio is taken within two such rounds. Each sample follows a run of the same model, an untimed
one where another model ran last: that leaves cold caches, which cost one of two equal models up to 7 %.
With one thread the clock is the CPU time of the calling thread, which other processes cannot inflate
much; wall time is reported beside it, and is the clock where anything but the CPU provider runs, since
that computes elsewhere.

Runs take their input in turns, large float arrays of it rolled: over one input alone the branch predictor
learns the signs, and a PRelu of random numbers ran at twice its speed.

Two traps. More threads than idle cores spin and cost wall time: the default is one thread. Denormal
floats (saturated softmax of random weights) can slow a model 17-fold, and a cut that removes them
then looks like a speed-up: `open_session(flush_denormals=True)` takes them out of the picture, but
ONNX Runtime heeds it only in the first session of a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphprune.errors import ArgumentError, ModelError
from graphprune.run import USUAL, Run
from graphprune.runtime.providers import CPU
from graphprune.runtime.session import Feeds, Session

# Two sessions of one small model differ by up to this much, through the placement of their memory alone.
MARGIN = 0.05
CONFIDENCE = 0.99
LEVEL = "no measurable difference"
RESAMPLES = 1000
BLOCK = 3  # neighbouring rounds share the machine's mood: resample them together
MIN_ROUNDS = 6
TURNS = 8
TURNED_BYTES = 2**25
"""Of all inputs that a model is timed on."""
TURNING_SECONDS = 1.0
"""To run a model on them before it is timed; what takes longer does not fit into a branch predictor."""
ROLLED = 64
"""Elements from which an array is rolled: fewer are settings."""
STEADY_ROUNDS = 40  # a narrow interval of fewer rounds is luck
FEW = 10  # pairs below which the bootstrap is too sure of itself
CHUNK = 10  # rounds between two looks at the spread
DECIDED = 0.2  # share of the least difference from 1 in an interval at which that is narrow enough, too


@dataclass(frozen=True)
class Subject:
    """A model to time: a name for the report, its session, and what to feed it."""

    name: str
    session: Session
    feeds: Feeds


@dataclass(frozen=True)
class Timing:
    """Seconds of one run of one model; `cpu` is the clock that the ratio uses."""

    name: str
    cpu_p10: float
    cpu_median: float
    wall_p10: float
    wall_median: float


@dataclass(frozen=True)
class Ratio:
    """Time of a model over that of the baseline: the median of the pairs and its 99 % interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """A difference counts only when the whole interval lies outside the margin."""
        if self.high < 1.0 - MARGIN:
            return "faster"
        if self.low > 1.0 / (1.0 - MARGIN):
            return "slower"
        return LEVEL


@dataclass(frozen=True)
class Latency:
    """Timings of all models, and the ratio of each later one to the first."""

    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]
    rounds: int
    runs_per_sample: int
    clock: str


@dataclass
class _Samples:
    """Seconds per run: one row per round, one column per subject."""

    cpu: list[list[float]] = field(default_factory=list)
    wall: list[list[float]] = field(default_factory=list)


def measure(
    subjects: Sequence[Subject],
    *,
    rounds: int = 200,
    warmup: int = 3,
    min_seconds: float = 1.0,
    max_seconds: float = 30.0,
    sample_seconds: float = 0.01,
    spread: float = 0.02,
    run: Run = USUAL,
) -> Latency:
    """Time models against the first of them.

    Args:
        subjects: the baseline first; all open at once, in this process.
        rounds: the most rounds; each times every subject twice, forth and back.
        warmup: untimed rounds before.
        min_seconds: measure at least this long, whatever the spread.
        max_seconds: stop here even if the spread is still wide (but not before six rounds).
        sample_seconds: short models are run several times per sample, to last about this long.
        spread: stop early once every interval is narrower than this, or beside the difference it shows.
        run: the seed of the bootstrap, and how long one of the untimed runs may take.

    Raises:
        ArgumentError: no subject, or subjects with different thread counts.
        ModelError: a model does not run on its feeds.
    """
    clock_name, clock = _clock(subjects)
    for _ in range(max(warmup, 1)):
        for subject in subjects:
            # Checks the feeds and reports errors; `call` does not.
            subject.session.run(subject.feeds, run.timeout)
    each = [in_turns(subject, run) for subject in subjects]
    turns = [given[: min(map(len, each))] for given in each]
    repeats = _repeats(subjects, sample_seconds)
    samples, start = _Samples(), time.perf_counter()
    while len(samples.cpu) < max(rounds, MIN_ROUNDS):
        _round(subjects, turns, repeats, clock, samples)
        done, elapsed = len(samples.cpu), time.perf_counter() - start
        if done < MIN_ROUNDS or elapsed < min_seconds:
            continue
        steady = done >= STEADY_ROUNDS and done % CHUNK == 0
        if elapsed > max_seconds or (steady and _narrow(subjects, samples, run.seed, spread)):
            break
    return Latency(
        timings=tuple(_timing(subject, index, samples) for index, subject in enumerate(subjects)),
        ratios=_ratios(subjects, samples, run.seed),
        rounds=len(samples.cpu),
        runs_per_sample=repeats,
        clock=clock_name,
    )


def _narrow(subjects: Sequence[Subject], samples: _Samples, seed: int, spread: float) -> bool:
    return all(_is_narrow(ratio, spread) for ratio in _ratios(subjects, samples, seed))


def _clock(subjects: Sequence[Subject]) -> tuple[str, Callable[[], float]]:
    counts = {subject.session.threads for subject in subjects}
    if len(counts) != 1:
        raise ArgumentError("a latency comparison needs models, all with the same number of threads")
    if any(subject.session.providers != (CPU,) for subject in subjects):
        return "wall", time.perf_counter
    return ("thread CPU", time.thread_time) if counts == {1} else ("process CPU", time.process_time)


def _repeats(subjects: Sequence[Subject], sample_seconds: float) -> int:
    """Runs per sample so that the fastest subject's sample lasts long enough for the clock."""
    fastest = float("inf")
    for subject in subjects:
        start = time.perf_counter()
        subject.session.call(subject.feeds)
        fastest = min(fastest, time.perf_counter() - start)
    return max(1, min(1000, round(sample_seconds / fastest)))


def in_turns(subject: Subject, run: Run = USUAL) -> tuple[Feeds, ...]:
    """The feeds, and the same with large float arrays rolled by seeded steps, if the model runs on those."""
    large = {name: array for name, array in subject.feeds.items() if _rolls(array)}
    size = sum(array.nbytes for array in large.values())
    draw = np.random.default_rng(run.seed)
    turns: list[Feeds] = [subject.feeds]
    start = time.perf_counter()
    for share in draw.random(max(1, min(TURNS, TURNED_BYTES // max(1, size))) - 1 if large else 0):
        rolled = {name: _rolled(array, share) for name, array in large.items()}
        turns.append({**subject.feeds, **rolled})
        try:
            subject.session.run(turns[-1], run.timeout)
        except ModelError:
            return (subject.feeds,)
        if time.perf_counter() - start > TURNING_SECONDS:
            break
    return tuple(turns)


def _rolls(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and array.size >= ROLLED


def _rolled(array: np.ndarray, share: float) -> np.ndarray:
    return np.roll(array.reshape(-1), 1 + int(share * (array.size - 1))).reshape(array.shape)


def _round(
    subjects: Sequence[Subject],
    turns: Sequence[Sequence[Feeds]],
    repeats: int,
    clock: Callable[[], float],
    samples: _Samples,
) -> None:
    cpu, wall = [0.0] * len(subjects), [0.0] * len(subjects)
    order = list(range(len(subjects)))
    if len(samples.cpu) % 2:
        order.reverse()
    last = None
    for index in (*order, *reversed(order)):
        session, given = subjects[index].session, turns[index]
        taken = [given[(repeats * len(samples.cpu) + at) % len(given)] for at in range(repeats)]
        if index != last:
            session.call(taken[-1])
        last = index
        wall_start, cpu_start = time.perf_counter(), clock()
        for feeds in taken:
            session.call(feeds)
        cpu[index] += (clock() - cpu_start) / (2 * repeats)
        wall[index] += (time.perf_counter() - wall_start) / (2 * repeats)
    samples.cpu.append(cpu)
    samples.wall.append(wall)


def _timing(subject: Subject, index: int, samples: _Samples) -> Timing:
    cpu = np.array(samples.cpu)[:, index]
    wall = np.array(samples.wall)[:, index]
    return Timing(
        subject.name,
        cpu_p10=float(np.percentile(cpu, 10)),
        cpu_median=float(np.median(cpu)),
        wall_p10=float(np.percentile(wall, 10)),
        wall_median=float(np.median(wall)),
    )


def _ratios(subjects: Sequence[Subject], samples: _Samples, seed: int) -> tuple[Ratio, ...]:
    times = np.array(samples.cpu)
    times = times[: len(times) // 2 * 2].reshape(-1, 2, len(subjects)).sum(axis=1)
    pairs = (times[:, 1:] / times[:, :1]).T
    return tuple(
        Ratio(subject.name, float(np.median(pair)), *interval(pair, seed))
        for subject, pair in zip(subjects[1:], pairs, strict=True)
    )


def _is_narrow(ratio: Ratio, spread: float) -> bool:
    """Whether more rounds would tell nothing new: rounds to halve an interval are four times as many."""
    shown = max(1.0 - ratio.high, ratio.low - 1.0)
    return ratio.high - ratio.low <= max(spread, DECIDED * shown)


def interval(pairs: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 99 % interval of the median of paired ratios, by circular block bootstrap.

    Politis and Romano, 1992. Fewer than ten pairs give their whole range instead.
    """
    count = len(pairs)
    if count < FEW:
        return float(np.min(pairs)), float(np.max(pairs))
    block = min(BLOCK, count)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (RESAMPLES, -(-count // block)))
    picks = (starts[:, :, None] + np.arange(block)) % count
    medians = np.median(pairs[picks.reshape(RESAMPLES, -1)[:, :count]], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)
