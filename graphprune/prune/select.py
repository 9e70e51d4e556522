"""Which Units go: ladders of legal steps per Group, put in one order, taken until a budget is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, inf
from typing import Literal

import numpy as np
import numpy.typing as npt

from graphprune.axes.groups import Group

Scores = npt.NDArray[np.float64]
Scope = Literal["global", "local", "isomorphic"]


@dataclass(frozen=True)
class Step:
    """A legal removal from one Group, on top of all its earlier steps.

    Attributes:
        group: number of the Group.
        units: Units that go with this step.
        removed: Units gone after it.
        score: highest mean score of a step so far, so that steps of a Group stay in order.
    """

    group: int
    units: tuple[int, ...]
    removed: int
    score: float


def alignment(group: Group, align: int | str) -> int:
    """The multiple that kept Units must be: hardware.md for `auto`, which binds only widths of convolutions."""
    if align == "auto":
        if not group.convolutional:
            return 1
        width = group.size * _per_conv(group)
        wanted = 16 if width >= 32 else 8 if width >= 16 else 4
    else:
        wanted = int(align)
    return max(1, wanted // gcd(wanted, _per_conv(group)))


def _per_conv(group: Group) -> int:
    """Slots of a convolution's width that one Unit owns."""
    counts = [len(s.pairs[0]) // group.size for s in group.slices if s.use.node.op_type in ("Conv", "ConvTranspose")]
    return max(1, min(counts, default=1))


def ladder(number: int, group: Group, scores: Scores, multiple: int, min_keep: float) -> list[Step]:
    """All legal steps of one Group, least salient Units first.

    Balanced Groups lose one Unit of every block at a time; kept counts are multiples of `multiple`, and never
    below the Group's floor or `min_keep` of its Units.
    """
    rows = _rows(group, scores)
    width, per_row = group.size, len(rows[0]) if rows else 1
    floor = max(1, group.floor, int(np.ceil(min_keep * width)))
    steps: list[Step] = []
    start, best = 0, -inf
    for end in range(1, len(rows)):
        kept = width - end * per_row
        if kept < floor:
            break
        if kept % multiple:
            continue
        units = tuple(unit for row in rows[start:end] for unit in row)
        best = max(best, float(np.mean(scores[list(units)])))
        steps.append(Step(number, units, end * per_row, best))
        start = end
    return steps


def _rows(group: Group, scores: Scores) -> list[tuple[int, ...]]:
    """Units in the order of removal; with blocks, the j-th least of every block together."""
    order = np.lexsort((np.arange(group.size), scores))
    if group.block is None:
        return [(int(unit),) for unit in order]
    columns = [[int(u) for u in order if group.block[u] == block] for block in np.unique(group.block)]
    rows = list(zip(*columns, strict=True))
    return sorted(rows, key=lambda row: float(np.mean(scores[list(row)])))


@dataclass(frozen=True)
class Order:
    """Steps of all Groups in the order they are taken, and the key that orders them."""

    steps: tuple[Step, ...]
    keys: tuple[float, ...]

    def kept(self, count: int, groups: Sequence[Group]) -> dict[str, tuple[int, ...]]:
        """Kept Units per Group id after the first `count` steps."""
        gone: dict[int, set[int]] = {}
        for step in self.steps[:count]:
            gone.setdefault(step.group, set()).update(step.units)
        return {
            groups[number].id: tuple(u for u in range(groups[number].size) if u not in units)
            for number, units in sorted(gone.items())
        }


def in_order(ladders: Sequence[list[Step]], groups: Sequence[Group], scope: Scope) -> Order:
    """Merges ladders: by score (global), by removed share of the Group (local) or of its class (isomorphic)."""
    keys = KEYS[scope](ladders, groups)
    pairs = sorted(zip(keys, (s for steps in ladders for s in steps), strict=True), key=lambda p: (p[0], p[1].group, p[1].removed))
    return Order(tuple(step for _, step in pairs), tuple(key for key, _ in pairs))


def _global_keys(ladders: Sequence[list[Step]], groups: Sequence[Group]) -> list[float]:
    return [step.score for steps in ladders for step in steps]


def _local_keys(ladders: Sequence[list[Step]], groups: Sequence[Group]) -> list[float]:
    return [step.removed / groups[step.group].size for steps in ladders for step in steps]


def _isomorphic_keys(ladders: Sequence[list[Step]], groups: Sequence[Group]) -> list[float]:
    """Removed share of the class after each step, in the class's own global order."""
    classes: dict[str, list[Step]] = {}
    for steps in ladders:
        for step in steps:
            classes.setdefault(isomorphic_key(groups[step.group]), []).append(step)
    share: dict[Step, float] = {}
    for members in classes.values():
        total = sum(groups[number].size for number in {step.group for step in members})
        removed = 0
        for step in sorted(members, key=lambda s: (s.score, s.group, s.removed)):
            removed += len(step.units)
            share[step] = removed / total
    return [share[step] for steps in ladders for step in steps]


def isomorphic_key(group: Group) -> str:
    """Same operators, roles and kernel sizes at every slice: the Groups compete with each other."""
    parts = sorted({f"{s.use.node.op_type}/{s.role}/{s.blocks > 1}/{_kernel(s)}" for s in group.slices})
    return "|".join(parts)


def _kernel(touched: object) -> str:
    use = touched.use  # type: ignore[attr-defined]
    tensor = use.value.const_value
    return "" if tensor is None else "x".join(str(d) for d in tensor.shape[2:])


KEYS: dict[str, Callable[[Sequence[list[Step]], Sequence[Group]], list[float]]] = {
    "global": _global_keys,
    "local": _local_keys,
    "isomorphic": _isomorphic_keys,
}


def take_ratio(order: Order, groups: Sequence[Group], ratio: float, scope: Scope) -> int:
    """How many steps a ratio of Units allows: the next one would remove more than it."""
    if scope == "global":
        allowed = int(ratio * sum(group.size for group in groups) + 1e-9)
        removed = np.cumsum([len(step.units) for step in order.steps])
        return int(np.searchsorted(removed, allowed, side="right"))
    return int(np.searchsorted(np.asarray(order.keys), ratio + 1e-9, side="right"))


def take_until(order: Order, groups: Sequence[Group], met: Callable[[Mapping[str, tuple[int, ...]]], bool]) -> int | None:
    """The fewest steps after which a budget is met, None when all of them do not meet it."""
    if not met(order.kept(len(order.steps), groups)):
        return None
    low, high = 0, len(order.steps)
    while low < high:
        middle = (low + high) // 2
        if met(order.kept(middle, groups)):
            high = middle
        else:
            low = middle + 1
    return low
