"""The end of a choice: other Groups and finer steps, where the next step would leave a budget far behind.

Steps of `align=auto` are as wide as hardware likes them. Where one takes more than SLACK of the model, the
rest of the way is gone in steps of another Group, then in steps of 8 and 4, in as few Groups as needed. Under
`auto` a convolution never ends at a width that is a multiple of nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphprune.axes.groups import Group
from graphprune.ir.arrays import Scores
from graphprune.prune.allocate import Cuts
from graphprune.prune.select import Align, Ladder, alignment, cuts_of, isomorphic_key, ladder

SLACK = 0.03
"""Share of the model (of the Units, for `ratio`) by which a budget may be left behind without more ado."""
FINER = (8, 4)
CANDIDATES = 16
"""Groups that are tried for the last step: those that lose least by it."""
PARTNERS = 8
"""Groups, and steps of each, that are tried in pairs."""

Gone = dict[int, int]
"""Units that go, by the number of the Group."""
Left = Callable[[Cuts], int]
Found = tuple[float, float, Gone]
"""A cut that meets a budget: the score of its last step, how far it goes beyond, and the Units that go."""


@dataclass(frozen=True)
class Landed:
    """Where a choice ended.

    Attributes:
        gone: Units that go of each Group.
        met: whether the budget is met.
        forced: the step that leaves it far behind, in words; empty where none does.
    """

    gone: Gone
    met: bool = True
    forced: str = ""


@dataclass(frozen=True)
class Steps:
    """Legal steps of the Groups that may still shrink.

    Args:
        groups: numbered as the ladders say.
        scores: per Unit.
        own: steps as aligned by default.
        align: as the pass says; only `auto` has finer steps.
        min_keep: share of every Group that stays.
        finer: whether there may be finer steps at all.
    """

    groups: Sequence[Group]
    scores: Mapping[str, Scores]
    own: Sequence[Ladder]
    align: Align
    min_keep: float
    finer: bool = True

    def levels(self) -> Iterator[list[Ladder]]:
        """The default steps, then finer ones."""
        yield [steps for steps in self.own if steps.removed.size]
        for multiple in FINER if self.finer and not isinstance(self.align, int) else ():
            some = (self._finer(steps.group, multiple) for steps in self.own)
            yield [steps for steps in some if steps is not None and steps.removed.size]

    def of(self, number: int) -> Iterator[Ladder]:
        """The steps of one Group, from wide to fine."""
        return (steps for ladders in self.levels() for steps in ladders if steps.group == number)

    def _finer(self, number: int, multiple: int) -> Ladder | None:
        group = self.groups[number]
        wanted = alignment(group, multiple)
        if not group.convolutional or wanted >= alignment(group, self.align):
            return None
        return ladder(number, group, self.scores[group.id], wanted, self.min_keep)

    def cuts(self, gone: Gone) -> Cuts:
        """Kept Units per Group id."""
        return cuts_of(gone, {steps.group: steps for steps in self.own}, self.groups)

    def words(self, number: int, before: int, after: int) -> str:
        """A step, for people."""
        group = self.groups[number]
        return f"group '{group.id}' from {group.size - before} to {group.size - after} units"


@dataclass(frozen=True)
class Landing:
    """The last steps towards a count of what is left.

    Args:
        steps: legal ones.
        over: share of the model by which a cut goes beyond the budget that it is nearest to; negative where
            it misses one.
    """

    steps: Steps
    over: Callable[[Cuts], float]

    def land(self, before: Gone, after: Gone | None) -> Landed:
        """The way from a cut that misses the budget to one that just meets it.

        Args:
            before: misses it.
            after: meets it by default steps; None where these run out before.
        """
        if self._over(before) >= 0:
            return Landed(before)
        if after is not None:
            before, after = self._last(before, after)
            return self._nearest(before, after)
        landed = self._nearest(before, None)
        while not landed.met:
            more = self._most(before)
            if more is None:
                return landed
            before = more
            landed = Landed(before) if self._over(before) >= 0 else self._nearest(before, None)
        return landed

    def _nearest(self, before: Gone, after: Gone | None) -> Landed:
        """The step, or else pair of steps, near the budget that costs least; else the nearest beyond it."""
        over = None if after is None else self._over(after)
        best = (over, after) if over is not None and after is not None else None
        most = (
            np.inf if after is None else self._lost(after)
        )  # less of the model may go, not more that counts
        if best is not None and best[0] <= SLACK:
            return Landed(best[1])
        for some in (self._alone, self._in_pairs):
            fine: list[Found] = []
            for ladders in self.steps.levels():
                found = some(before, ladders)
                fine += [each for each in found if each[1] <= SLACK and self._lost(each[2]) <= most]
                beyond = [*([best] if best else []), *((over, gone) for _, over, gone in found)]
                best = min(beyond, key=self._nearer, default=None)
            if fine:
                return Landed(min(fine, key=lambda each: each[0])[2])
        if best is None:
            return Landed(before, met=False)
        moved = [n for n in best[1] if best[1][n] != before.get(n, 0)]
        words = (self.steps.words(n, self._previous(n, before, best[1]), best[1][n]) for n in moved)
        return Landed(best[1], forced=" and ".join(words))

    def _nearer(self, beyond: tuple[float, Gone]) -> tuple[float, float, float]:
        """Order of cuts that lose more than the wide step: near the budget, then by what they lose."""
        over, gone = beyond
        return max(over - SLACK, 0.0), self._lost(gone), over

    def _previous(self, number: int, before: Gone, after: Gone) -> int:
        """Units of a Group that go one step earlier, in the finest steps there are."""
        counts = [
            int(count)
            for steps in self.steps.of(number)
            for count in steps.removed[steps.removed < after[number]]
        ]
        return max([before.get(number, 0), *counts])

    def _most(self, before: Gone) -> Gone | None:
        """All that is left of the Group that gives most, in the finest steps; None where nothing is left."""
        *_, finest = self.steps.levels()
        best = {
            steps.group: int(steps.removed[-1])
            for steps in (*self.steps.own, *finest)
            if steps.removed.size and steps.removed[-1] > before.get(steps.group, 0)
        }
        if not best:
            return None
        number = min(best, key=lambda n: (-self._over(before | {n: best[n]}), n))
        return before | {number: best[number]}

    def _alone(self, before: Gone, ladders: Sequence[Ladder]) -> list[Found]:
        """The step of each Group that meets the budget, where no other Group steps."""
        return [each for each in map(self._single(before), _cheapest(ladders, before)) if each]

    def _in_pairs(self, before: Gone, ladders: Sequence[Ladder]) -> list[Found]:
        """Pairs of Groups, up to the first near the budget: one steps some of the way, another the rest."""
        chosen, found = _cheapest(ladders, before)[:PARTNERS], list[Found]()
        for first in chosen:
            for removed in first.removed[first.removed > before.get(first.group, 0)][:PARTNERS].tolist():
                now = before | {first.group: removed}
                if self._over(now) >= 0:
                    break
                found += self._alone(now, [steps for steps in chosen if steps.group != first.group])
                if any(over <= SLACK for _, over, _ in found):
                    return found
        return found

    def _lost(self, gone: Gone) -> float:
        """Scores of all Units that go."""
        kept, scores = self.steps.cuts(gone), self.steps.scores
        return float(
            sum(scores[name].sum() - scores[name][list(units)].sum() for name, units in kept.items())
        )

    def _over(self, gone: Gone) -> float:
        """Share of the model by which a cut goes beyond the target; negative where it misses it."""
        return self.over(self.steps.cuts(gone))

    def _last(self, before: Gone, after: Gone) -> tuple[Gone, Gone]:
        """As `land`, with only one Group between the two: where several step at once, they do so in turn."""
        where = {steps.group: steps for steps in self.steps.own}
        moved = [number for number in after if after[number] != before.get(number, 0)]
        for number in sorted(moved, key=lambda n: (_score(where[n], after[n]), n)):
            now = before | {number: after[number]}
            if self._over(now) >= 0:
                return before, now
            before = now
        return before, after

    def _single(self, before: Gone) -> Callable[[Ladder], Found | None]:
        """The smallest step of one Group that meets the budget."""

        def try_(steps: Ladder) -> Found | None:
            ahead = steps.removed[steps.removed > before.get(steps.group, 0)].tolist()
            if not ahead or self._over(before | {steps.group: ahead[-1]}) < 0:
                return None
            *others, _ = ahead  # the last one meets it
            at = bisect_left(others, True, key=lambda some: self._over(before | {steps.group: some}) >= 0)
            gone = before | {steps.group: ahead[at]}
            return _score(steps, ahead[at]), self._over(gone), gone

        return try_


def _score(steps: Ladder, removed: int) -> float:
    at = int(np.searchsorted(steps.removed, removed))
    return float(steps.scores[min(at, len(steps.scores) - 1)]) if len(steps.scores) else 0.0


def _cheapest(ladders: Sequence[Ladder], gone: Gone) -> list[Ladder]:
    """The Groups whose next step costs least."""
    ahead = [steps for steps in ladders if steps.removed[-1] > gone.get(steps.group, 0)]
    keys = {s.group: _score(s, gone.get(s.group, 0) + 1) for s in ahead}
    return sorted(ahead, key=lambda s: (keys[s.group], s.group))[:CANDIDATES]


@dataclass(frozen=True)
class Room:
    """How much a ratio lets go: of all Units together, of each class or of each Group.

    Attributes:
        pool: of each Group by its number; Groups of one pool compete.
        allowed: Units that may go per pool.
        units: all Units that the ratio is a share of.
    """

    pool: Mapping[int, object]
    allowed: Mapping[object, int]
    units: int

    def rest(self, gone: Gone) -> dict[object, int]:
        """Units that may still go per pool."""
        rest = dict(self.allowed)
        for number, count in gone.items():
            rest[self.pool[number]] -= count
        return rest

    def largest(self, steps: Ladder, gone: Gone) -> int | None:
        """The most Units of a Group that may go in all, where that is more than now."""
        before, rest = gone.get(steps.group, 0), self.rest(gone)[self.pool[steps.group]]
        fits = steps.removed[(steps.removed > before) & (steps.removed <= before + rest)]
        return int(fits[-1]) if fits.size else None

    def gap(self, gone: Gone) -> float:
        """Share of all Units that may still go."""
        return sum(max(0, rest) for rest in self.rest(gone).values()) / max(1, self.units)


def room(groups: Sequence[Group], numbers: Sequence[int], ratio: float, scope: str) -> Room:
    """What a ratio allows of the numbered Groups."""
    pool: dict[int, object] = {
        n: n if scope == "local" else isomorphic_key(groups[n]) if scope == "isomorphic" else "all"
        for n in numbers
    }
    sizes: dict[object, int] = {}
    for number, key in pool.items():
        sizes[key] = sizes.get(key, 0) + groups[number].size
    allowed = {key: int(ratio * size + 1e-9) for key, size in sizes.items()}
    return Room(pool, allowed, sum(sizes.values()))


@dataclass(frozen=True)
class CostRoom:
    """How much a ratio lets go of what all Units cost; a weight that two Groups shrink counts once.

    Attributes:
        cuts: kept Units of what goes.
        left: counts the model after a cut.
        most: what it counts before.
        units: what all Units cost.
        ratio: the share of it that may go.
    """

    cuts: Callable[[Gone], Cuts]
    left: Left
    most: int
    units: int
    ratio: float

    def holds(self, cuts: Cuts) -> bool:
        """Whether a cut is allowed."""
        return self.most - self.left(cuts) <= self.ratio * self.units * (1 + 1e-9)

    def largest(self, steps: Ladder, gone: Gone) -> int | None:
        """The most Units of a Group that may go in all, where that is more than now."""
        ahead = steps.removed[steps.removed > gone.get(steps.group, 0)].tolist()
        some = bisect_left(ahead, True, key=lambda at: not self.holds(self.cuts(gone | {steps.group: at})))
        return ahead[some - 1] if some else None

    def gap(self, gone: Gone) -> float:
        """Share of what all Units cost that may still go."""
        return self.ratio - (self.most - self.left(self.cuts(gone))) / max(1, self.units)


def cost_room(steps: Steps, left: Left, ratio: float) -> CostRoom:
    """What a ratio allows of what the Units of all these Groups cost."""
    most, least = left({}), left({steps.groups[each.group].id: () for each in steps.own})
    return CostRoom(steps.cuts, left, most, most - least, ratio)


def fill(steps: Steps, room: Room | CostRoom, gone: Gone) -> Landed:
    """More steps where those taken leave far more than a ratio allows, none of which exceeds it."""
    for ladders in steps.levels():
        while room.gap(gone) > SLACK:
            found = _fitting(ladders, room, gone)
            if not found:
                break
            now = gone
            chosen, removed = max(found, key=lambda each: _worth(each, now, room))
            gone = gone | {chosen.group: removed}
    if room.gap(gone) <= SLACK:
        return Landed(gone)
    return Landed(gone, met=False, forced=_blocked(steps, gone))


def _fitting(ladders: Sequence[Ladder], room: Room | CostRoom, gone: Gone) -> list[tuple[Ladder, int]]:
    """Groups that have a step left, and their widest; where counting is dear, of those that lose least."""
    some = _cheapest(ladders, gone) if isinstance(room, CostRoom) else ladders
    for tried in (some, ladders):
        found = [(steps, widest) for steps in tried if (widest := room.largest(steps, gone)) is not None]
        if found:
            return found
    return []


def _worth(step: tuple[Ladder, int], gone: Gone, room: Room | CostRoom) -> tuple[bool, float, int]:
    """One step that is enough comes first, the least salient of these; else the widest."""
    steps, removed = step
    enough = room.gap(gone | {steps.group: removed}) <= SLACK
    wide = removed - gone.get(steps.group, 0)
    return enough, -_score(steps, removed) if enough else wide, -steps.group


def _blocked(steps: Steps, gone: Gone) -> str:
    """The smallest step there is, which is too wide; nothing where there is none."""
    found: list[tuple[int, int, int]] = []
    for ladders in steps.levels():
        for each in ladders:
            before = gone.get(each.group, 0)
            ahead = each.removed[each.removed > before]
            if ahead.size:
                found.append((int(ahead[0]) - before, each.group, int(ahead[0])))
    if not found:
        return ""
    _, number, after = min(found)
    return steps.words(number, gone.get(number, 0), after)
