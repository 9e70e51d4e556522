"""The loss of a compressed model against the dense one, on draws and on the selection part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.training.draws import Draws
from graphprune.autograd.training.losses import Aim, Values, labelled, loss
from graphprune.autograd.training.stacks import Feed, Stack
from graphprune.autograd.training.teacher import Teacher
from graphprune.autograd.training.weights import Weights
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor
from graphprune.runtime.gaps import real_tokens

EPOCHS = 64
"""Epochs with draws of their own; later ones repeat them, so that the dense model's answers are known."""
TOGETHER = 8
"""Samples of the selection part that run at a time."""
DECAY, MOMENTS = 1e-4, (0.9, 0.99)


@dataclass(eq=False)
class Lesson:
    """What a compressed model is to learn, and its weights on the way.

    Args:
        net: the compressed model.
        weights: of it, to be trained.
        aims: what is compared.
        teacher: the dense model.
        draws: training samples.
        selection: samples to choose the best step by.
        narrow: makes a feed of the dense model one of the compressed model.
        stack: how samples run together.
        judge: a loss of the user's own in place of ours, from the values of both models by name.
        labels: of the samples of the selection part [samples, classes]; draws have their own.
        label_scale: what the cross-entropy with labels is divided by.
    """

    net: Differentiable
    weights: Weights
    aims: Sequence[Aim]
    teacher: Teacher
    draws: Draws
    selection: Sequence[Feed]
    narrow: Callable[[Feed], Feed]
    stack: Stack
    judge: Callable[[Values, Values], Tensor] | None = None
    labels: Array | None = None
    label_scale: float = 1.0
    _start: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = copied(self.weights.leaves)

    def optimiser(self, rate: float) -> torch.optim.Optimizer:
        """A fresh optimiser of the weights."""
        leaves = list(self.weights.leaves.values())
        return torch.optim.AdamW(leaves, lr=rate, betas=MOMENTS, weight_decay=DECAY, fused=True)

    def step(self, optimiser: torch.optim.Optimizer, batch: int, number: int) -> float:
        """Step `number` of a training; the loss before it. A loss that is no number changes nothing."""
        optimiser.zero_grad(set_to_none=True)
        per_epoch = max(1, len(self.draws) // batch)
        epoch, at = divmod(number, per_epoch)
        lost = self._backward(epoch % EPOCHS, self.draws.order(epoch)[at * batch : (at + 1) * batch])
        self.weights.hold_zeros()
        if math.isfinite(lost):
            optimiser.step()
        return lost

    def _backward(self, epoch: int, numbers: Sequence[int]) -> float:
        """The mean loss of draws; its gradients are added to those of the leaves."""
        drawn = [self.draws.draw(epoch, number) for number in numbers]
        answers = [self.teacher.answer((epoch, n), feed) for n, feed in zip(numbers, drawn, strict=True)]
        labels = None
        if self.draws.labels is not None:
            labels = np.stack([self.draws.label(epoch, number) for number in numbers])
        total = 0.0
        for part in self._parts(drawn):
            lost = self._loss([drawn[at] for at in part], [answers[at] for at in part], _some(labels, part))
            share = len(part) / len(drawn)
            (lost * share).backward()
            total += float(lost.detach()) * share
        return total

    def _parts(self, feeds: Sequence[Feed]) -> list[list[int]]:
        """Places of samples that run together."""
        parts: list[list[int]] = []
        for at, feed in enumerate(feeds):
            alike = (part for part in parts if self.stack.fits([feeds[part[0]], feed]))
            mine = next(alike, None) if self.stack.several else None
            if mine is None:
                parts.append([at])
            else:
                mine.append(at)
        return parts

    def _loss(
        self, feeds: Sequence[Feed], answers: Sequence[Mapping[str, Array]], labels: Array | None
    ) -> Tensor:
        small = self._run([self.narrow(feed) for feed in feeds], self.weights.whole())
        dense = self.stack.answers(answers)
        lost = self.judge(small, dense) if self.judge else loss(self.aims, small, dense, _real(feeds))
        if labels is None:
            return lost
        goal = next(aim.goal for aim in self.aims if aim.goal.kind == "classes")
        told = torch.from_numpy(labels)
        return (lost + labelled(goal, small, told) / self.label_scale) / 2

    def _run(self, feeds: Sequence[Feed], whole: Mapping[str, Tensor]) -> Values:
        names = [aim.goal.value for aim in self.aims]
        return self.stack.run(lambda feed: self.net.run(feed, names, parameters=whole), feeds)

    def selected(self, leaves: Mapping[str, Tensor]) -> float:
        """The loss on the selection part with these weights."""
        held = copied(self.weights.leaves)
        self.put(leaves)
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(self.selection), TOGETHER):
                feeds = self.selection[first : first + TOGETHER]
                keys = [("selection", first + at) for at in range(len(feeds))]
                answers = [self.teacher.answer(key, feed) for key, feed in zip(keys, feeds, strict=True)]
                labels = None if self.labels is None else self.labels[first : first + TOGETHER]
                for part in self._parts(feeds):
                    mine = _some(labels, part)
                    lost = self._loss([feeds[at] for at in part], [answers[at] for at in part], mine)
                    total += float(lost) * len(part)
        self.put(held)
        return total / len(self.selection)

    def put(self, leaves: Mapping[str, Tensor]) -> None:
        """Other values of the weights."""
        with torch.no_grad():
            for name, leaf in self.weights.leaves.items():
                leaf.copy_(leaves[name])

    def reset(self) -> None:
        """The weights as they were before any step."""
        self.put(self._start)
        for leaf in self.weights.leaves.values():
            leaf.grad = None


def _some(labels: Array | None, part: Sequence[int]) -> Array | None:
    return None if labels is None else labels[list(part)]


def copied(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values by name, for themselves."""
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


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start
