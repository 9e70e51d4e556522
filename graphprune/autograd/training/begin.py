"""Makes a training ready: which weights, what is compared, and how samples run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.training.draws import draws
from graphprune.autograd.training.lesson import Lesson
from graphprune.autograd.training.losses import aims
from graphprune.autograd.training.stacks import Feed, stacked
from graphprune.autograd.training.teacher import teacher
from graphprune.autograd.training.weights import trained, weights
from graphprune.axes.goals import Goal
from graphprune.errors import ArgumentError
from graphprune.run import Run

LOOKED_AT = 128
"""Samples whose answers say how much each goal counts."""


def begin(
    *,
    dense: ir.Model,
    model: ir.Model,
    goals: Sequence[Goal],
    samples: Sequence[Feed],
    selection: Sequence[Feed],
    axes: Mapping[str, int],
    narrow: Callable[[Feed], Feed],
    rank: int,
    run: Run,
) -> Lesson:
    """What a compressed model is to learn.

    Args:
        dense: the model that it was.
        model: the compressed model; it is not changed.
        goals: what is compared.
        samples: feeds of the dense model to train on, one sample each.
        selection: others to choose by.
        axes: of each input, the axis along which samples follow each other; empty if each is a whole feed.
        narrow: makes a feed of the dense model one of the compressed model.
        rank: of the updates of large matrices; 0 trains all weights.
        run: the seed, and how long a run of the dense model may take.

    Raises:
        ArgumentError: there are no weights to train.
        UnsupportedError: an operator on the way does not run in torch.
    """
    net = Differentiable(model)
    net.trainable(())
    names = trained(model, net)
    if not names:
        raise ArgumentError("recover: the model has no floating weights to train", "leave recover out")
    values = [goal.value for goal in goals]
    asked = teacher(dense, values, run)
    answers = [
        {name: torch.from_numpy(array) for name, array in asked.answer(("look", at), feed).items()}
        for at, feed in enumerate(samples[:LOOKED_AT])
    ]
    few = [narrow(feed) for feed in samples]
    stack = stacked(lambda feeds: net.run(feeds, values), few, axes)
    return Lesson(
        net=net,
        weights=weights(net, names, rank, run.seed),
        aims=aims(goals, answers),
        teacher=asked,
        draws=draws(dense, samples, run.seed),
        selection=selection,
        narrow=narrow,
        stack=stack,
    )
