"""Which Units go: ladders of legal steps per Group, put in one order, taken until a budget is reached."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal

import numpy as np

from graphprune.axes.groups import Group, Slice
from graphprune.ir.arrays import Ids, Scores
from graphprune.ops import has
from graphprune.ops.traits import Trait

Scope = Literal["global", "local", "isomorphic"]


@dataclass(frozen=True, eq=False)
class Ladder:
    """All legal removals from one Group, each on top of the earlier ones.

    Attributes:
        group: number of the Group.
        order: Units in the order in which they go.
        removed: Units gone after each step; step k takes order[removed[k-1]:removed[k]].
        scores: highest mean score of a step so far, so that the steps of a Group stay in order.
    """

    group: int
    order: Ids
    removed: Ids
    scores: Scores


@dataclass(frozen=True)
class Auto:
    """Multiples that fit a machine.

    Attributes:
        step: channels by which a convolution has to be narrower to be cheaper.
    """

    step: int = 16

    def of(self, width: int) -> int:
        """The step where at least two of them stay, then half of it, and four where the machine has steps."""
        if width >= 2 * self.step:
            return self.step
        return max(min(4, self.step), self.step // 2 if width >= self.step else 0)


Align = int | Literal["auto"] | Auto


def alignment(group: Group, align: Align) -> int:
    """The multiple that kept Units must be; `auto` binds convolutions only (docs/methods.md#alignment)."""
    align = Auto() if align == "auto" else align
    if isinstance(align, Auto):
        if not group.convolutional:
            return 1
        wanted = align.of(group.size * _per_conv(group))
    else:
        wanted = align
    return wanted // gcd(wanted, _per_conv(group))


def _per_conv(group: Group) -> int:
    """Slots of a convolution's width that one Unit owns."""
    counts = [s.count // group.size for s in group.slices if has(s.use.node, Trait.CONVOLUTION)]
    return max(1, min(counts, default=1))


def ladder(number: int, group: Group, scores: Scores, multiple: int, min_keep: float) -> Ladder:
    """All legal steps of one Group, least salient Units first.

    Balanced Groups lose one Unit of every block at a time; kept counts are multiples of `multiple`, and never
    below the Group's floor or `min_keep` of its Units.
    """
    rows = group.removals(scores)
    removed = _legal(group, rows.shape[1], multiple, min_keep)
    order = rows.ravel()
    total = np.concatenate([[0.0], np.cumsum(scores[order])])
    starts = np.concatenate([[0], removed[:-1]])
    means = (total[removed] - total[starts]) / (removed - starts) if removed.size else np.empty(0)
    return Ladder(number, order, removed, np.maximum.accumulate(means))


def lowest(group: Group, multiple: int, min_keep: float) -> int:
    """Units that stay where a Group goes as far as it may."""
    blocks = 1 if group.block is None else len(np.unique(group.block))
    return group.size - int(_legal(group, blocks, multiple, min_keep).max(initial=0))


def _legal(group: Group, blocks: int, multiple: int, min_keep: float) -> Ids:
    """Numbers of Units that may go."""
    floor = max(1, group.floor, int(np.ceil(min_keep * group.size - 1e-9)))
    removed = np.arange(1, group.size // blocks) * blocks
    kept = group.size - removed
    return np.asarray(removed[(kept >= floor) & (kept % multiple == 0)])


@dataclass(frozen=True, eq=False)
class Order:
    """Steps of all Groups in the order they are taken.

    Attributes:
        ladders: by number of the Group; Groups without steps may be missing.
        group, removed: of each step.
        keys: what the steps are ordered by.
    """

    ladders: dict[int, Ladder]
    group: Ids
    removed: Ids
    keys: Scores

    def __len__(self) -> int:
        return len(self.group)

    @property
    def taken(self) -> Ids:
        """Units gone in all Groups after each step."""
        before = np.zeros(len(self), np.int64)
        for number in self.ladders:
            mine = np.flatnonzero(self.group == number)
            before[mine[1:]] = self.removed[mine[:-1]]
        return np.cumsum(self.removed - before)

    def gone(self, count: int) -> dict[int, int]:
        """Units gone by number of the Group after the first `count` steps."""
        removed = np.zeros(1 + max(self.ladders, default=0), np.int64)
        np.maximum.at(removed, self.group[:count], self.removed[:count])
        return {number: int(removed[number]) for number in np.flatnonzero(removed).tolist()}

    def kept(self, count: int, groups: Sequence[Group]) -> dict[str, tuple[int, ...]]:
        """Kept Units per Group id after the first `count` steps."""
        return cuts_of(self.gone(count), self.ladders, groups)


def cuts_of(
    gone: Mapping[int, int], ladders: Mapping[int, Ladder], groups: Sequence[Group]
) -> dict[str, tuple[int, ...]]:
    """Kept Units per Group id where so many go, by number of the Group."""
    return {
        groups[number].id: tuple(np.sort(ladders[number].order[count:]).tolist())
        for number, count in gone.items()
        if count
    }


def in_order(ladders: Sequence[Ladder], groups: Sequence[Group], scope: Scope) -> Order:
    """Merges ladders: by score (global), by removed share of the Group (local) or class (isomorphic).

    A class is what the ladders hold of it: Groups with a ratio of their own have none here.
    """
    by_number = {steps.group: steps for steps in ladders if steps.removed.size}
    group = _joined([np.full(len(steps.removed), number) for number, steps in by_number.items()])
    removed = _joined([steps.removed for steps in by_number.values()])
    scores = np.concatenate([np.empty(0), *(steps.scores for steps in by_number.values())])
    competing = {steps.group for steps in ladders}
    sizes = np.array([each.size if n in competing else 0 for n, each in enumerate(groups)], np.int64)
    keys = KEYS[scope](group, removed, scores, sizes, [isomorphic_key(each) for each in groups])
    order = np.lexsort((removed, group, keys))
    return Order(by_number, group[order], removed[order], keys[order])


def _joined(parts: list[Ids]) -> Ids:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _global_keys(group: Ids, removed: Ids, scores: Scores, sizes: Ids, classes: list[str]) -> Scores:
    return scores


def _local_keys(group: Ids, removed: Ids, scores: Scores, sizes: Ids, classes: list[str]) -> Scores:
    return np.asarray(removed / sizes[group])


def _isomorphic_keys(group: Ids, removed: Ids, scores: Scores, sizes: Ids, classes: list[str]) -> Scores:
    """Removed share of the class after each step, in the class's own global order."""
    _, number = np.unique(classes, return_inverse=True)
    keys = np.empty(len(group))
    for each in np.unique(number[group]):
        mine = np.flatnonzero(number[group] == each)
        mine = mine[np.lexsort((removed[mine], group[mine], scores[mine]))]
        gone = np.zeros(len(sizes), np.int64)
        steps = np.empty(len(mine), np.int64)
        for position, step in enumerate(mine):
            steps[position] = removed[step] - gone[group[step]]
            gone[group[step]] = removed[step]
        keys[mine] = np.cumsum(steps) / sizes[number == each].sum()
    return keys


def isomorphic_key(group: Group) -> str:
    """Same operators, roles and kernel sizes at every slice: the Groups compete with each other."""
    parts = sorted({f"{s.use.node.op_type}/{s.role}/{s.blocks > 1}/{_kernel(s)}" for s in group.slices})
    return "|".join(parts)


def _kernel(touched: Slice) -> str:
    tensor = touched.use.value.const_value
    return "" if tensor is None else "x".join(str(d) for d in tensor.shape[2:])


KEYS: dict[str, Callable[[Ids, Ids, Scores, Ids, list[str]], Scores]] = {
    "global": _global_keys,
    "local": _local_keys,
    "isomorphic": _isomorphic_keys,
}


def take_ratio(order: Order, groups: Sequence[Group], ratio: float, scope: Scope) -> int:
    """How many steps a ratio of Units allows: the next one would remove more than it."""
    if scope == "global":
        allowed = int(ratio * sum(group.size for group in groups) + 1e-9)
        return int(np.searchsorted(order.taken, allowed, side="right"))
    return int(np.searchsorted(order.keys, ratio + 1e-9, side="right"))


def take_until(
    order: Order, groups: Sequence[Group], met: Callable[[Mapping[str, tuple[int, ...]]], bool]
) -> int | None:
    """The fewest steps after which a budget is met, None when all of them do not meet it."""
    if not met(order.kept(len(order), groups)):
        return None
    return bisect_left(range(len(order)), True, key=lambda count: met(order.kept(count, groups)))
