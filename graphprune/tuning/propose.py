"""Which candidates to try next: a function of what earlier ones told, and of nothing else.

Every way is tried quickly at one amount, the better half of them once more. Then the two that promise most
are driven, by bracketing, to the amount at which they lose as much as they may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from graphprune.tuning.trial import FULL, QUICK, Asked, History, Level, Trial
from graphprune.tuning.ways import DENSE, Way, trained

FIRST, CAREFUL = 0.6, 0.75
"""Share of the multiply-adds that first candidates leave; where there is room for few of them."""
LEAST, MOST = 0.03, 0.97
ROOM = 8
"""With room for fewer candidates the first ways are followed without telling all apart."""
FURTHER, BACK = 0.6, 0.5
"""How much further the next cut goes where none failed yet, and which part of it stays where all did."""
CLOSE = 1.06
"""A bracket that is no wider tells nothing new."""
EDGE = 0.2
"""How near to the ends of a bracket the next candidate may be, as a share of it."""
DRIVEN = 2
"""Ways that are driven at a time."""
SMALL = 1e-4
"""A loss that is smaller counts as this."""
HARMLESS = 4.0
"""A loss that is so many times below the bound draws the next candidate no further than one of none."""
LEARNT = 2.0
"""Times the bound that a cut loses which a training may bring back, about."""
Point = tuple[float, float]
"""The share that a cut leaves, and how far it went."""
FAILED = 1.0
"""How far beyond the bound counts what nothing came of."""


def proposed(
    history: History,
    ways: Sequence[Way],
    count: int,
    *,
    screen: bool = True,
    brief: bool = True,
    everything: bool = False,
) -> list[Asked]:
    """Up to so many candidates; fewer where the best ways have come to their ends.

    Args:
        history: what was told.
        ways: that are tried.
        count: of candidates.
        screen: whether all ways are tried first.
        brief: whether they are tried quickly.
        everything: follow all ways, not only the best.
    """
    asked = (each for each in _candidates(history, ways, screen, brief, everything) if not history.has(each))
    return list(islice(dict.fromkeys(asked), count))


def to_train(history: History, ways: Sequence[Way]) -> Way | None:
    """The way whose cuts are worth a training: that of the best so far, else the one that loses least."""
    best = next((each.asked.way for each in history.holding if each.asked.way != DENSE), None)
    if best is not None:
        return next((way for way in ways if best in (way.name, trained(way).name)), None)
    driven = [way for way in ways if any(each.made for each in history.of(way.name, FULL))]
    return min(driven, key=lambda way: _Line(history, way.name).promise, default=None)


def beyond(history: History, way: Way, seconds: float) -> list[Asked]:
    """A cut that goes further than the bound, to be trained so long; none where that tells nothing new.

    The first is where the cut alone loses `LEARNT` times the bound, or next to nothing is cut; others go
    further as long as training brings that back, and close in between the hardest that holds and the mildest
    that does not.
    """
    cut, taught = _Line(history, way.name), _Line(history, trained(way).name)
    holding = [each for line in (cut, taught) for each in line.points(FULL) if each[1] <= 0]
    hardest = min(holding, default=(1.0, 0.0))
    tried = taught.points(FULL)
    left: float | None
    if not tried:
        left = min(cut.where(math.log(LEARNT)), hardest[0] / CLOSE**2)
    elif all(value <= 0 for _, value in tried):
        left = hardest[0] * math.sqrt(FURTHER)
    else:
        left = taught.next(FULL, (hardest,) if holding else ())
    if left is None or (holding and hardest[0] / left < CLOSE):
        return []
    asked = Asked(trained(way).name, _within(left), FULL, round(seconds))
    return [] if history.has(asked) else [asked]


def _candidates(
    history: History, ways: Sequence[Way], screen: bool, brief: bool, everything: bool
) -> Iterator[Asked]:
    level, left = QUICK if screen and brief else FULL, FIRST if screen else CAREFUL
    first = [Asked(way.name, left, level) for way in ways if not history.of(way.name)]
    if screen and not brief:
        told = [way for way in ways if history.of(way.name) and not history.of(way.name, FULL)]
        first = [*_next(history, told, FULL), *first]
    if first:
        yield from first
        return
    alive = [way for way in ways if _Line(history, way.name).alive]
    ranked = sorted(alive, key=lambda way: (_Line(history, way.name).promise, ways.index(way)))
    again = _again(history, ranked)
    if again:
        yield from _next(history, again, QUICK)
        return
    yield from _next(history, ranked if everything else ranked[:DRIVEN], FULL)


def _again(history: History, ranked: Sequence[Way]) -> list[Way]:
    """Ways that are tried quickly once more: the better half, where there are many and it is early."""
    half = max(DRIVEN, len(ranked) // 2)
    begun = any(history.of(way.name, FULL) for way in ranked)
    twice = sum(len(history.of(way.name, QUICK)) > 1 for way in ranked)
    if begun or twice >= half or len(ranked) <= DRIVEN:
        return []
    return [way for way in ranked[:half] if len(history.of(way.name, QUICK)) == 1]


def _next(history: History, ways: Sequence[Way], level: Level) -> Iterator[Asked]:
    for way in ways:
        left = _Line(history, way.name).next(level)
        if left is not None:
            yield Asked(way.name, left, level)


@dataclass(frozen=True)
class _Line:
    """Trials of one way as points of a curve that is to be followed to its root.

    The less is left, the larger the values; where they are above zero, a cut went too far.
    """

    history: History
    way: str

    @property
    def alive(self) -> bool:
        """Whether anything came of it."""
        return any(each.made for each in self.history.of(self.way))

    def value(self, trial: Trial) -> float:
        """How far a cut went: the logarithm of its loss over the bound; or of a target over what is left."""
        if not trial.made or trial.loss is None:
            return FAILED
        if self.history.goal.bounds:
            return -math.log(max(self.history.share(trial), SMALL))
        bound = max(self.history.bound, SMALL)
        return math.log(min(max(trial.loss.cautious, bound / HARMLESS), 1.0) / bound)

    def where(self, value: float) -> float:
        """The share at which that value is reached, by the secant; further than all where none reaches it.

        Where no cut of this way went so far in full, quick ones say how fast it loses.
        """
        points = self.points(FULL)
        high = [point for point in points if point[1] <= value]
        if not high:
            return MOST
        known = (point for level in (FULL, QUICK) for point in reversed(self.points(level)))
        low = [point for point in known if point[1] > value and point[0] < min(high)[0]][:1]
        if not low:
            return _within(min(high)[0] * FURTHER)
        moved = [(left, at - value) for left, at in (max(low), min(high))]
        return _between(*moved)

    def next(self, level: Level, known: Sequence[Point] = ()) -> float | None:
        """The share to leave next, with points that are known from elsewhere; None at the end."""
        points = sorted([*self.points(level), *known])
        if not points:
            points = self.points(QUICK)
            root = self._root(points)
            return None if root is None else _within(root)
        low, high = self._bracket(points)
        if low is None and high is None:
            return None
        if high is None:
            assert low is not None
            back = 1 - (1 - low[0]) * BACK
            return None if back > MOST else back
        if low is None:
            further = high[0] * self._step(high[1])
            return None if further < LEAST else further
        return None if high[0] / low[0] < CLOSE else _between(*self._unstuck(low, high, level))

    def _unstuck(self, low: Point, high: Point, level: Level) -> tuple[Point, Point]:
        """An end that stayed while the other moved more than once weighs half as much each time.

        The secant else creeps up to the root from one side (Illinois algorithm, Dowell and Jarratt 1971).
        """
        values = [self.value(each) for each in self.history.of(self.way, level)]
        far = values[-1] > 0
        weight = 2.0 ** (1 - len(list(takewhile(lambda value: (value > 0) == far, reversed(values)))))
        return (low, (high[0], high[1] * weight)) if far else ((low[0], low[1] * weight), high)

    @property
    def promise(self) -> float:
        """The cost where as much is lost as may be; with bounds, the loss where they are met."""
        made = self.history.of(self.way, FULL) or self.history.of(self.way, QUICK)
        found = [each for each in made if each.made and each.loss is not None]
        points = sorted((self.value(each), self._cost(each)) for each in found)
        over = [point for point in points if point[0] > 0]
        under = [point for point in points if point[0] <= 0]
        if under and over:
            return _line(under[-1], over[0])
        if under:
            return under[-1][1] * FURTHER if not self.history.goal.bounds else under[-1][1] / FURTHER
        if not over:
            return math.inf
        value, cost = over[0]
        return 1 - (1 - cost) * math.exp(-value) if not self.history.goal.bounds else cost * math.exp(-value)

    def _cost(self, trial: Trial) -> float:
        assert trial.loss is not None
        return trial.loss.cautious if self.history.goal.bounds else self.history.share(trial)

    def points(self, level: Level) -> list[Point]:
        """Shares left and values, the hardest cut first."""
        return sorted((each.asked.left, self.value(each)) for each in self.history.of(self.way, level))

    def _bracket(self, points: Sequence[Point]) -> tuple[Point | None, Point | None]:
        """The mildest cut below the root that went too far, and the hardest that did not."""
        high = next((point for point in points if point[1] <= 0), None)
        far = [point for point in points if point[1] > 0 and (high is None or point[0] < high[0])]
        return (far[-1] if far else None), high

    def _step(self, value: float) -> float:
        """How much further the next cut goes where none failed yet: twice the way behind a harmless one."""
        harmless = not self.history.goal.bounds and value <= -math.log(HARMLESS)
        return FURTHER**2 if harmless else FURTHER

    def _root(self, points: Sequence[Point]) -> float | None:
        """Where the curve is about zero, out of quick trials."""
        low, high = self._bracket(points)
        if low is not None and high is not None:
            return _between(low, high)
        if high is not None:
            return high[0] * math.sqrt(self._step(high[1]))
        return None if low is None else 1 - (1 - low[0]) * math.sqrt(BACK)


def _within(left: float) -> float:
    return round(min(MOST, max(LEAST, left)), 4)


def _between(low: Point, high: Point) -> float:
    """By the secant over logarithms of what is left."""
    part = min(1 - EDGE, max(EDGE, -high[1] / max(low[1] - high[1], SMALL)))
    return _within(math.exp(math.log(high[0]) + part * (math.log(low[0]) - math.log(high[0]))))


def _line(under: Point, over: Point) -> float:
    part = -under[0] / max(over[0] - under[0], SMALL)
    return under[1] + part * (over[1] - under[1])
