"""Trains a compressed graph towards what the dense one says, on unlabelled samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.tensors import numpy_kind, to_array
from graphprune.autograd.training.draws import Draws
from graphprune.autograd.training.losses import Aim, Values, loss
from graphprune.autograd.training.setting import Asked, Pace, Point, Trained
from graphprune.autograd.training.stacks import Feed, Stack
from graphprune.autograd.training.teacher import Teacher
from graphprune.autograd.training.weights import Weights
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor
from graphprune.run import Run
from graphprune.runtime.gaps import real_tokens

DECAY, MOMENTS = 1e-4, (0.9, 0.99)
WARM = 0.05
"""Share of the steps in which the rate grows."""
AVERAGED = 0.05
"""Share of the steps over which weights are averaged."""
LOOKS, PATIENCE = 12, 6
"""How often the selection part is looked at, and how often in vain before the training ends."""
EPOCHS = 16
"""Epochs with draws of their own; later ones repeat them, so that the dense model's answers are known."""
RATES = (2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
TRIAL, SHARE = 12, 0.15
"""Steps of a trial of a rate, and the share of the time that all trials may take."""
BATCH = 8


@dataclass(eq=False)
class Training:
    """A training in progress.

    Args:
        net: the compressed model.
        weights: of it, to be trained.
        aims: what is compared.
        teacher: the dense model.
        draws: training samples.
        selection: samples to choose the best step by.
        narrow: makes a feed of the dense model one of the compressed model.
        stack: how samples run together.
        run: the seed, jobs, and whom to tell progress.
    """

    net: Differentiable
    weights: Weights
    aims: Sequence[Aim]
    teacher: Teacher
    draws: Draws
    selection: Sequence[Feed]
    narrow: Callable[[Feed], Feed]
    stack: Stack
    run: Run
    _start: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = _copied(self.weights.leaves)

    def train(self, asked: Asked) -> Trained:
        """Finds the pace, then takes all steps; the best weights on the selection part are the result."""
        with threads(self.run.jobs):
            began = time.monotonic()
            return self._steps(self._pace(asked), began)

    def _pace(self, asked: Asked) -> Pace:
        """What is not given: a batch of eight, the rate that fits best in a few steps, steps for the time."""
        batch = asked.batch or min(BATCH, len(self.draws))
        began = time.monotonic()
        self._step_loss(0, batch, 0)  # the first run of a graph makes it ready
        rate = asked.rate or self._rate(batch, asked)
        if asked.steps is not None:
            return Pace(asked.steps, batch, rate)
        each = self._seconds_per_step(batch)
        look = self._seconds_per_look()
        left = asked.seconds - (time.monotonic() - began) - (LOOKS + 1) * look
        return Pace(max(1, int(left / each)), batch, rate)

    def _rate(self, batch: int, asked: Asked) -> float:
        """The rate after a few steps of which the loss is least; the largest that does no harm, if none."""
        lost: dict[float, float] = {}
        began, allowed = time.monotonic(), SHARE * asked.seconds
        for rate in RATES:
            lost[rate] = self._trial(rate, batch)
            if asked.steps is None and time.monotonic() - began > allowed:
                break
        return min(lost, key=lambda rate: (lost[rate], rate))

    def _trial(self, rate: float, batch: int) -> float:
        """The mean loss of the last steps of a short training."""
        optimiser = self._optimiser(rate)
        losses = []
        for step in range(TRIAL):
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / (TRIAL / 3))
            losses.append(self._step(optimiser, 0, batch, step))
        self._reset()
        tail = losses[-TRIAL // 3 :]
        mean = sum(tail) / len(tail)
        return mean if math.isfinite(mean) else math.inf

    def _seconds_per_step(self, batch: int) -> float:
        optimiser = self._optimiser(0.0)
        began = time.monotonic()
        for step in range(3):
            self._step(optimiser, 0, batch, step)
        self._reset()
        return (time.monotonic() - began) / 3

    def _seconds_per_look(self) -> float:
        began = time.monotonic()
        self._selected(self.weights.leaves)
        return time.monotonic() - began

    def _reset(self) -> None:
        with torch.no_grad():
            for name, leaf in self.weights.leaves.items():
                leaf.copy_(self._start[name])
                leaf.grad = None

    def _steps(self, pace: Pace, began: float) -> Trained:
        optimiser = self._optimiser(pace.rate)
        average = _copied(self.weights.leaves)
        best, curve = _copied(average), [Point(0, math.nan, self._selected(average))]
        sums: list[float] = []
        every = max(1, pace.steps // LOOKS)
        start = time.monotonic()
        for step in range(pace.steps):
            for group in optimiser.param_groups:
                group["lr"] = pace.rate * scheduled(step, pace.steps)
            sums.append(self._step(optimiser, *self._place(step, pace), step))
            _follow(average, self.weights.leaves, step, pace.steps)
            if (step + 1) % every and step + 1 < pace.steps:
                continue
            point = Point(step + 1, sum(sums) / len(sums), self._selected(average))
            if point.selection < min(each.selection for each in curve):
                best = _copied(average)
            curve.append(point)
            sums.clear()
            self._tell(point, pace, start)
            if _in_vain(curve):
                break
        chosen = min(curve, key=lambda each: each.selection)
        return self._told(best, pace, curve, chosen.step, time.monotonic() - began)

    def _told(
        self, best: Mapping[str, Tensor], pace: Pace, curve: Sequence[Point], step: int, seconds: float
    ) -> Trained:
        self._put(best)
        whole = {name: each.detach() for name, each in self.weights.whole().items()}
        kinds = {name: to_array(each, numpy_kind(each)) for name, each in whole.items()} if step else {}
        counts = (len(whole), sum(each.numel() for each in whole.values()))
        return Trained(
            kinds,
            pace,
            tuple(curve),
            step,
            counts,
            seconds,
            self.stack.several,
            {
                "torch": torch.__version__,
                "instructions": torch.backends.cpu.get_cpu_capability(),
                "jobs": str(self.run.jobs),
            },
        )

    def _place(self, step: int, pace: Pace) -> tuple[int, int]:
        """The epoch of a step, and its batch."""
        per_epoch = max(1, len(self.draws) // pace.batch)
        return step // per_epoch, pace.batch

    def _numbers(self, epoch: int, batch: int, step: int) -> list[int]:
        per_epoch = max(1, len(self.draws) // batch)
        at = (step % per_epoch) * batch
        return self.draws.order(epoch)[at : at + batch]

    def _step(self, optimiser: torch.optim.Optimizer, epoch: int, batch: int, step: int) -> float:
        """One step of the optimiser; the loss before it."""
        optimiser.zero_grad(set_to_none=True)
        lost = self._step_loss(epoch, batch, step)
        self.weights.hold_zeros()
        if math.isfinite(lost):
            optimiser.step()
        return lost

    def _step_loss(self, epoch: int, batch: int, step: int) -> float:
        """The mean loss of a batch; its gradients are added to those of the leaves."""
        shown = epoch % EPOCHS
        numbers = self._numbers(epoch, batch, step)
        drawn = [self.draws.draw(shown, number) for number in numbers]
        answers = [
            self.teacher.answer((shown, number), feed) for number, feed in zip(numbers, drawn, strict=True)
        ]
        parts = self._parts(drawn)
        total = 0.0
        for part in parts:
            lost = self._loss([drawn[at] for at in part], [answers[at] for at in part])
            share = len(part) / len(drawn)
            (lost * share).backward()
            total += float(lost.detach()) * share
        return total

    def _parts(self, feeds: Sequence[Feed]) -> list[list[int]]:
        """Numbers of samples that run together."""
        if not self.stack.several:
            return [[at] for at in range(len(feeds))]
        parts: list[list[int]] = []
        for at, feed in enumerate(feeds):
            mine = next((part for part in parts if self.stack.fits([feeds[part[0]], feed])), None)
            if mine is None:
                parts.append([at])
            else:
                mine.append(at)
        return parts

    def _loss(self, feeds: Sequence[Feed], answers: Sequence[Mapping[str, Array]]) -> Tensor:
        small = self._run([self.narrow(feed) for feed in feeds], self.weights.whole())
        dense = self.stack.answers(answers)
        return loss(self.aims, small, dense, _real(feeds))

    def _run(self, feeds: Sequence[Feed], whole: Mapping[str, Tensor]) -> Values:
        names = [aim.goal.value for aim in self.aims]
        return self.net.run(self.stack.feeds(feeds), names, parameters=whole)

    def _selected(self, leaves: Mapping[str, Tensor]) -> float:
        """The loss on the selection part with these weights."""
        held = _copied(self.weights.leaves)
        self._put(leaves)
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(self.selection), BATCH):
                feeds = self.selection[first : first + BATCH]
                answers = [
                    self.teacher.answer(("selection", first + at), feed) for at, feed in enumerate(feeds)
                ]
                for part in self._parts(feeds):
                    lost = self._loss([feeds[at] for at in part], [answers[at] for at in part])
                    total += float(lost) * len(part)
        self._put(held)
        return total / len(self.selection)

    def _put(self, leaves: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, leaf in self.weights.leaves.items():
                leaf.copy_(leaves[name])

    def _optimiser(self, rate: float) -> torch.optim.Optimizer:
        leaves = list(self.weights.leaves.values())
        return torch.optim.AdamW(leaves, lr=rate, betas=MOMENTS, weight_decay=DECAY)

    def _tell(self, point: Point, pace: Pace, start: float) -> None:
        left = (time.monotonic() - start) * (pace.steps / point.step - 1)
        self.run.progress(point.step, pace.steps, f"recover: loss {point.selection:.4f}, {left:.0f} s left")


def scheduled(step: int, steps: int) -> float:
    """The share of the largest rate: a linear warm-up, then half a cosine."""
    warm = max(1, round(WARM * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _follow(average: dict[str, Tensor], leaves: Mapping[str, Tensor], step: int, steps: int) -> None:
    """The exponential mean of weights, young while it knows few of them."""
    share = max(1 / (1 + AVERAGED * steps), 1 / (step + 1))
    with torch.no_grad():
        for name, leaf in leaves.items():
            average[name].lerp_(leaf, share)


def _in_vain(curve: Sequence[Point]) -> bool:
    """Whether the last looks were all worse than one before them."""
    before, last = curve[:-PATIENCE], curve[-PATIENCE:]
    return bool(before) and min(p.selection for p in last) > min(p.selection for p in before)


def _copied(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in leaves.items()}


def _real(feeds: Sequence[Feed]) -> Tensor | None:
    """Which tokens of a batch are no padding."""
    found = [real_tokens(feed) for feed in feeds]
    shape = next((each.shape for each in found if each is not None), None)
    if shape is None:
        return None
    return torch.from_numpy(
        np.concatenate([np.ones(shape, bool) if each is None else each for each in found])
    )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
