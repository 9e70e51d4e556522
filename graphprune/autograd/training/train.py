"""Trains a compressed graph towards what the dense one says, on unlabelled samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from graphprune.autograd.tensors import to_array
from graphprune.autograd.training.lesson import Lesson, Watch, copied
from graphprune.autograd.training.pace import find_pace
from graphprune.autograd.training.progress import Checkpoint, State
from graphprune.autograd.training.setting import Asked, Pace, Point, Trained, looks
from graphprune.ops.torch.call import Tensor
from graphprune.run import Run

WARM = 0.05
"""Share of the steps in which the rate grows."""
AVERAGED = 0.05
"""Share of the steps over which weights are averaged."""
PATIENCE = 6
"""Looks at the selection part that are in vain before the training ends."""


def train(
    lesson: Lesson,
    asked: Asked,
    run: Run,
    checkpoint: Checkpoint,
    watch: Callable[[], float] | None = None,
) -> Trained:
    """Finds the pace, then takes all steps; the weights that were best on the selection part are the result.

    Args:
        lesson: what is to be learned.
        asked: how long, and what else is given.
        run: jobs, and whom to tell progress.
        checkpoint: where the state is kept, and taken from where a run was stopped.
        watch: seconds since the work began, what made the lesson ready included; from now on if None.
    """
    watch = watch or Watch()
    with threads(run.jobs):
        state = checkpoint.read()
        if state is None:
            state = _begun(lesson, find_pace(lesson, asked, watch))
        _Training(lesson, state, run, checkpoint).finish()
        found = _told(lesson, state, watch(), run)
    checkpoint.remove()
    return found


def _begun(lesson: Lesson, pace: Pace) -> State:
    rows = lesson.weights.rows
    first = Point(0, math.nan, lesson.selected(rows))
    return State(pace, copied(rows), copied(rows), copied(rows), {}, [first])


@dataclass(frozen=True, eq=False)
class _Training:
    """The steps of a training from a state on."""

    lesson: Lesson
    state: State
    run: Run
    checkpoint: Checkpoint

    def finish(self) -> None:
        """Takes the steps that are left, with looks at the selection part between them."""
        state, pace, watch = self.state, self.state.pace, Watch()
        self.lesson.put(state.weights)
        optimiser = self.lesson.optimiser(pace.rate)
        if state.optimiser:
            optimiser.load_state_dict(state.optimiser)
        first = state.step
        stride = max(1, pace.steps // looks(pace.steps, pace.batch, len(self.lesson.selection)))
        while state.step < pace.steps and not in_vain(state.curve):
            end = min(pace.steps, state.step + stride)
            losses = [self._step(optimiser, number) for number in range(state.step, end)]
            self._look(end, sum(losses) / len(losses))
            left = watch() * (pace.steps - end) / (end - first)
            told = f"recover: loss {state.curve[-1].selection:.4f}, {left:.0f} s left"
            self.run.progress(end, pace.steps, told)
            self._keep(optimiser)

    def _step(self, optimiser: torch.optim.Optimizer, number: int) -> float:
        pace = self.state.pace
        for group in optimiser.param_groups:
            group["lr"] = pace.rate * scheduled(number, pace.steps)
        lost = self.lesson.step(optimiser, pace.batch, number)
        _follow(self.state.average, self.lesson.weights.rows, number, pace.steps)
        return lost

    def _look(self, step: int, training: float) -> None:
        """The loss of the averaged weights, and they themselves where it is the least so far."""
        state = self.state
        point = Point(step, training, self.lesson.selected(state.average))
        if point.selection < min(each.selection for each in state.curve):
            state.best = copied(state.average)
        state.curve.append(point)

    def _keep(self, optimiser: torch.optim.Optimizer) -> None:
        if self.checkpoint.due:
            self.state.weights = copied(self.lesson.weights.rows)
            self.state.optimiser = optimiser.state_dict()
            self.checkpoint.write(self.state)


def _told(lesson: Lesson, state: State, seconds: float, run: Run) -> Trained:
    best = min(state.curve, key=lambda each: each.selection).step
    lesson.put(state.best)
    whole = {name: each.detach() for name, each in lesson.weights.whole().items()}
    versions = {
        "torch": str(torch.__version__),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "jobs": str(run.jobs),
    }
    return Trained(
        weights={name: to_array(each, lesson.net.kinds[name]) for name, each in whole.items()}
        if best
        else {},
        pace=state.pace,
        curve=tuple(state.curve),
        best=best,
        trained=(len(whole), sum(each.numel() for each in whole.values())),
        seconds=seconds,
        together=lesson.stack.several,
        versions=versions,
    )


def scheduled(step: int, steps: int) -> float:
    """The share of the largest rate: a linear warm-up, then half a cosine."""
    warm = max(1, round(WARM * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _follow(average: Mapping[str, Tensor], rows: Mapping[str, Tensor], step: int, steps: int) -> None:
    """The exponential mean of weights, young while it knows few of them."""
    share = max(1 / (1 + AVERAGED * steps), 1 / (step + 1))
    follow = get_ema_multi_avg_fn(1 - share)
    follow([average[kind] for kind in rows], list(rows.values()), step)


def in_vain(curve: Sequence[Point]) -> bool:
    """Whether the last looks were all worse than one before them, the first of all aside.

    What was repaired fits its samples so well that any step away from it is worse at first, and better later.
    """
    before, last = curve[1:-PATIENCE], curve[-PATIENCE:]
    return bool(before) and min(p.selection for p in last) > min(p.selection for p in before)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
