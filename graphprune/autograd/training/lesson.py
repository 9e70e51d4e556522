"""The loss of a compressed model against the dense one, on draws and on the selection part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.training.draws import Draws
from graphprune.autograd.training.losses import Aim, Values, labelled, loss
from graphprune.autograd.training.stacks import Feed, Joined, Stack
from graphprune.autograd.training.teacher import Teacher
from graphprune.autograd.training.weights import Weights
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor
from graphprune.runtime.gaps import real_tokens

EPOCHS = 64
"""Epochs with draws of their own; later ones repeat them, so that the dense model's answers are known."""
TOGETHER = 8
"""Samples of the selection part that run at a time."""
KEPT = 1 << 28
"""Bytes of inputs that are kept joined, and of answers."""
MOMENTS = (0.9, 0.99)


@dataclass(frozen=True)
class Part:
    """Samples that run together.

    Attributes:
        feed: of the compressed model.
        dense: what the dense model says to them.
        labels: of them, a tensor [samples, classes].
        real: which of their tokens are no padding.
        share: of a step.
    """

    feed: Joined
    dense: Values
    labels: Tensor | None
    real: Tensor | None
    share: float

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in (*self.feed.values(), *self.dense.values()))


@dataclass(eq=False)
class Store:
    """What was computed, by a key of its own, as far as there is room."""

    room: int
    _held: dict[object, list[Part]] = field(default_factory=dict)

    def get(self, key: object, make: Callable[[], list[Part]]) -> list[Part]:
        """What is kept, or made now."""
        if key in self._held:
            return self._held[key]
        made = make()
        size = sum(part.bytes for part in made)
        if size <= self.room:
            self._held[key] = made
            self.room -= size
        return made


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
        inner: values inside the graph that are matched in steps, and not where the best step is chosen.
        weight: of their loss.
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
    inner: Sequence[Aim] = ()
    weight: float = 0.0
    _start: dict[str, Tensor] = field(default_factory=dict)
    _parts: Store = field(default_factory=lambda: Store(KEPT))
    _answers: dict[object, list[dict[str, Array]]] = field(default_factory=dict)
    _room: int = KEPT

    def __post_init__(self) -> None:
        self._start = copied(self.weights.rows)

    def optimiser(self, rate: float) -> torch.optim.Optimizer:
        """A fresh optimiser of the weights."""
        rows = list(self.weights.rows.values())
        return torch.optim.AdamW(rows, lr=rate, betas=MOMENTS, weight_decay=0.0, fused=True)

    def step(self, optimiser: torch.optim.Optimizer, batch: int, number: int) -> float:
        """Step `number` of a training; the loss before it. A loss that is no number changes nothing."""
        optimiser.zero_grad(set_to_none=True)
        per_epoch = max(1, len(self.draws) // batch)
        epoch, at = divmod(number, per_epoch)
        lost = self._backward(self._drawn(epoch % EPOCHS, at, batch))
        if math.isfinite(lost):
            optimiser.step()
        return lost

    def _drawn(self, epoch: int, at: int, batch: int) -> list[Part]:
        """Samples of a step: the same whenever they are drawn, and so are those that run together."""
        numbers = self.draws.order(epoch)[at * batch : (at + 1) * batch]

        def make() -> list[Part]:
            feeds = [self.draws.draw(epoch, number) for number in numbers]
            labels = None
            if self.draws.labels is not None:
                labels = np.stack([self.draws.label(epoch, number) for number in numbers])
            return self._made((epoch, at, batch), feeds, labels)

        return self._parts.get((epoch, at, batch), make)

    def balance(self, share: float) -> None:
        """Lets the values inside count so much beside the loss as it is before any step."""
        parts = self._drawn(0, 0, min(TOGETHER, len(self.draws)))
        outer = inner = 0.0
        with torch.no_grad():
            for part in parts:
                small = self._run(part.feed, self.weights.whole(), (*self.aims, *self.inner))
                outer += float(self._outer(part, small)) * part.share
                inner += float(loss(self.inner, small, part.dense)) * part.share
        self.weight = share * outer / inner if inner > 0 and math.isfinite(outer / inner) else 0.0

    def _made(
        self, key: object, feeds: Sequence[Feed], labels: Array | None, names: Sequence[str] = ()
    ) -> list[Part]:
        answers = self._answered(key, feeds, names)
        return [
            Part(
                self.stack.join([self.narrow(feeds[at]) for at in part]),
                self.stack.answers([answers[at] for at in part]),
                None if labels is None else torch.from_numpy(labels[part]),
                _real([feeds[at] for at in part]),
                len(part) / len(feeds),
            )
            for part in self.stack.parts(feeds)
        ]

    def _answered(self, key: object, feeds: Sequence[Feed], names: Sequence[str]) -> list[dict[str, Array]]:
        """What the dense model says, kept where the inputs do not fit."""
        if key in self._answers:
            return self._answers[key]
        found = self.teacher.answers(feeds, names)
        size = sum(array.nbytes for each in found for array in each.values())
        if size <= self._room:
            self._answers[key] = found
            self._room -= size
        return found

    def _backward(self, parts: Sequence[Part]) -> float:
        """The mean loss; its gradients are added to those of the rows."""
        total = 0.0
        leaves = list(self.weights.leaves.values())
        for part in parts:
            lost = self._loss(part, self.inner if self.weight else ())
            self.weights.take(torch.autograd.grad(lost * part.share, leaves, allow_unused=True))
            total += float(lost.detach()) * part.share
        return total

    def _loss(self, part: Part, inner: Sequence[Aim] = ()) -> Tensor:
        small = self._run(part.feed, self.weights.whole(), (*self.aims, *inner))
        lost = self._outer(part, small)
        return lost + self.weight * loss(inner, small, part.dense) if inner else lost

    def _outer(self, part: Part, small: Values) -> Tensor:
        """The loss of the outputs."""
        lost = self.judge(small, part.dense) if self.judge else loss(self.aims, small, part.dense, part.real)
        if part.labels is None:
            return lost
        goal = next(aim.goal for aim in self.aims if aim.goal.kind == "classes")
        return (lost + labelled(goal, small, part.labels) / self.label_scale) / 2

    def _run(self, feed: Joined, whole: Mapping[str, Tensor], aims: Sequence[Aim]) -> Values:
        names = [aim.goal.value for aim in aims]
        return self.stack.run(lambda each: self.net.run(each, names, parameters=whole), feed)

    def selected(self, rows: Mapping[str, Tensor]) -> float:
        """The loss on the selection part with these weights."""
        held = copied(self.weights.rows)
        self.put(rows)
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(self.selection), TOGETHER):
                parts = self._parts.get(("selection", first), partial(self._selection, first))
                count = min(TOGETHER, len(self.selection) - first)
                total += sum(float(self._loss(part)) * part.share for part in parts) * count
        self.put(held)
        return total / len(self.selection)

    def _selection(self, first: int) -> list[Part]:
        labels = None if self.labels is None else self.labels[first : first + TOGETHER]
        names = [aim.goal.value for aim in self.aims]
        return self._made(("selection", first), self.selection[first : first + TOGETHER], labels, names)

    def put(self, rows: Mapping[str, Tensor]) -> None:
        """Other values of the weights."""
        with torch.no_grad():
            for kind, row in self.weights.rows.items():
                row.copy_(rows[kind])

    def reset(self) -> None:
        """The weights as they were before any step."""
        self.put(self._start)
        for row in self.weights.rows.values():
            row.grad = None


def copied(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for themselves."""
    return {kind: row.detach().clone() for kind, row in rows.items()}


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
