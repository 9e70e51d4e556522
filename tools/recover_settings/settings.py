"""Settings of a training that are compared: each differs from the usual one in one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from graphprune.autograd.training import draws, losses, train
from graphprune.autograd.training.lesson import Lesson

from .drawn import Tried

Apart = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Setting:
    """How a training differs.

    Attributes:
        mixed: share of the draws that are mixed, where samples have a mean.
        crossed: share of the draws of ids that are crossed with another sample.
        noise: most of it, in standard deviations.
        averaged: share of the steps over which weights are averaged; 0 for none.
        constant: whether the rate stays behind the warm-up.
        rate: times that of the range test.
        matches: whether values inside the graph are compared.
        temperature: of both distributions, with the loss times its square.
        hard: whether a sample counts the more, the more it is off (by the square root of its divergence).
        more: whether 320 samples train and 64 choose, in place of 256 and 128.
    """

    mixed: float = draws.MIXED
    crossed: float = 0.0
    noise: float | None = None
    averaged: float | None = None
    constant: bool = False
    rate: float = 1.0
    matches: bool = False
    temperature: float = 1.0
    hard: bool = False
    more: bool = False

    @contextmanager
    def held(self, lesson: Lesson) -> Iterator[None]:
        """A lesson under this setting."""
        given = {each.name: getattr(lesson.draws, each.name) for each in fields(lesson.draws)}
        given["mixed"] = self.mixed if given["mixed"] else 0.0
        lesson.draws = Tried(**given, crossed=self.crossed)
        with ExitStack() as stack:
            if self.noise is not None:
                stack.enter_context(patch.object(draws, "NOISE", self.noise))
            if self.averaged is not None:
                stack.enter_context(patch.object(train, "AVERAGED", self.averaged))
            if self.constant:
                stack.enter_context(patch.object(train, "scheduled", _warmed))
            apart = self._apart()
            if apart is not None:
                stack.enter_context(patch.object(lesson, "step", _with_loss(lesson, apart)))
            yield

    def _apart(self) -> Apart | None:
        if self.temperature != 1:
            return lambda one, two, axis: _at(self.temperature, one, two, axis)
        return _hard if self.hard else None


SETTINGS = {
    "usual": Setting(),
    "all mixed": Setting(mixed=1.0),
    "plain": Setting(mixed=0.0),
    "ids half crossed": Setting(crossed=0.5),
    "ids crossed": Setting(crossed=1.0),
    "no noise": Setting(noise=0.0),
    "no average": Setting(averaged=0.0),
    "average of 20 %": Setting(averaged=0.2),
    "constant rate": Setting(constant=True),
    "rate x 2": Setting(rate=2.0),
    "rate x 4": Setting(rate=4.0),
    "rate / 2": Setting(rate=0.5),
    "match": Setting(matches=True),
    "temperature 3": Setting(temperature=3.0),
    "hard samples": Setting(hard=True),
    "320 samples": Setting(more=True),
}
"""By name, the usual one first."""


def _warmed(step: int, steps: int) -> float:
    """The warm-up alone."""
    return min(1.0, (step + 1) / max(1, round(train.WARM * steps)))


def _with_loss(lesson: Lesson, apart: Apart) -> Callable[[torch.optim.Optimizer, int, int], float]:
    """Steps with another divergence; the selection part keeps the usual one."""
    usual = lesson.step

    def step(optimiser: torch.optim.Optimizer, batch: int, number: int) -> float:
        with patch.object(losses, "_divergence", apart):
            return usual(optimiser, batch, number)

    return step


def _at(temperature: float, one: Tensor, two: Tensor, axis: int) -> Tensor:
    """KL of softened distributions times T squared (Hinton et al., Distilling the Knowledge, 2015)."""
    p, q = (F.log_softmax(each / temperature, axis) for each in (one, two))
    return temperature**2 * (p.exp() * (p - q)).sum(axis)


def _hard(one: Tensor, two: Tensor, axis: int) -> Tensor:
    p, q = (F.log_softmax(each, axis) for each in (one, two))
    apart = (p.exp() * (p - q)).sum(axis)
    weight = apart.detach().clamp_min(1e-8).sqrt()
    return apart * weight / weight.mean()
