"""How a training runs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphprune.ir.arrays import Array

LOOKS, FEWEST = 12, 2
"""How often the selection part is looked at, at most and at least."""
BACK = 3.0
"""Times as long as a look at a sample that a step takes for one, about."""
LOOKING = 0.25
"""Share of what steps take that looks may take, about."""


@dataclass(frozen=True)
class Pace:
    """What a range test finds, or a recipe says.

    Attributes:
        steps: of the optimiser.
        batch: samples of a step.
        rate: the largest learning rate.
    """

    steps: int
    batch: int
    rate: float


def looks(steps: float, batch: int, samples: int) -> int:
    """How often a training looks at so many samples: a matter of counts alone, so that it can be repeated."""
    return int(min(LOOKS, max(FEWEST, LOOKING * BACK * steps * batch / max(1, samples))))


@dataclass(frozen=True)
class Asked:
    """What is asked of a training; None leaves a range test to find it.

    Attributes:
        seconds: that it may take, where no steps are given.
        steps: of the optimiser.
        batch: samples of a step.
        rate: the largest learning rate.
        rank: of the updates of large layers; 0 trains their weights.
    """

    seconds: float
    steps: int | None = None
    batch: int | None = None
    rate: float | None = None
    rank: int = 0


@dataclass(frozen=True)
class Point:
    """The loss at a step: the mean on training draws since the last point, and on the selection part."""

    step: int
    training: float
    selection: float


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        weights: new values by name of initializer; empty where no step was better than none.
        pace: how it ran.
        curve: losses, the first before any step.
        best: the step whose weights these are.
        trained: initializers, and their elements.
        seconds: that it took.
        together: whether samples ran as rows of one batch.
        versions: what else has to be the same for the same bytes: torch, instruction set, jobs.
    """

    weights: Mapping[str, Array] = field(repr=False)
    pace: Pace
    curve: tuple[Point, ...]
    best: int
    trained: tuple[int, int]
    seconds: float
    together: bool
    versions: Mapping[str, str] = field(default_factory=dict)
