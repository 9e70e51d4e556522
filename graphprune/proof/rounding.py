"""How far a model differs from itself: a comparison of two graphs cannot look below that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphprune.runtime.compare import agreement
from graphprune.runtime.session import Outputs

FACTOR = 8
"""Times its own rounding that a result may differ: two graphs round at more places than two runs of one."""
MOST = 0.01
"""Rounding never excuses more than this."""


@dataclass(frozen=True)
class Bounds:
    """What a difference may be, relative to the largest element.

    Attributes:
        base: the tolerance that was asked for.
        rounding: of single values, how far the same graph differs from itself.
    """

    base: float
    rounding: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """The bound for one value."""
        return max(self.base, min(FACTOR * self.rounding.get(name, 0.0), MOST))

    @property
    def widest(self) -> float:
        """The largest bound of any value."""
        return max([self.base, *map(self.of, self.rounding)])

    @property
    def notes(self) -> list[str]:
        """What got another bound than the one that was asked for, at its worst."""
        wider = {name: self.of(name) for name in self.rounding if self.of(name) > self.base}
        if not wider:
            return []
        name = max(wider, key=lambda each: wider[each])
        return [
            f"rounding: the masked model differs from itself by up to {self.rounding[name]:.1e} when its "
            f"graph is not optimised, so that up to {wider[name]:.1e} counts as agreement"
        ]


def own_rounding(optimised: Sequence[Outputs], plain: Sequence[Outputs]) -> dict[str, float]:
    """The worst relative difference per value of two ways to run one model on the same inputs."""
    worst: dict[str, float] = {}
    for one, two in zip(optimised, plain, strict=True):
        for found in agreement(one, two).outputs:
            worst[found.name] = max(worst.get(found.name, 0.0), found.relative)
    return worst
