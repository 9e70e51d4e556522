"""What a `ratio` counts, and how much of it a plan removes: the judge of budgets compares the two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphprune.axes import Group

Cuts = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Ratio:
    """The share that was to go, the share that goes, and of what."""

    asked: float
    gone: float
    of: str = "Units"


def of_units(asked: float, groups: Iterable[Group], cuts: Cuts, of: str = "Units") -> Ratio:
    """A share of the Units of some Groups."""
    sizes = {group.id: group.size for group in groups}
    gone = sum(size - len(cuts[name]) for name, size in sizes.items() if name in cuts)
    return Ratio(asked, gone / max(1, sum(sizes.values())), of)


def of_cost(asked: float, groups: Iterable[Group], cuts: Cuts, left: Callable[[Cuts], int], of: str) -> Ratio:
    """A share of what the Units of some Groups cost; other Groups are cut as they are."""
    names = [group.id for group in groups]
    others = {name: kept for name, kept in cuts.items() if name not in names}
    most, least = left(others), left(others | dict.fromkeys(names, ()))
    return Ratio(asked, (most - left(cuts)) / max(1, most - least), of)
