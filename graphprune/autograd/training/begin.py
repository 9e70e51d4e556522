"""Makes a training ready: which weights, what is compared, and how samples run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from graphprune.autograd.differentiable import Differentiable
from graphprune.autograd.training.draws import draws
from graphprune.autograd.training.lesson import Lesson
from graphprune.autograd.training.losses import Values, aims, label_scale
from graphprune.autograd.training.matches import matched, small_enough
from graphprune.autograd.training.stacks import Feed, stacked
from graphprune.autograd.training.teacher import Teacher, teacher
from graphprune.autograd.training.weights import trained, weights
from graphprune.axes.goals import Goal
from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor
from graphprune.run import Run

LARGE, SEGMENTS = 50_000_000, 8
"""Weights from which on a graph is large, and the parts that it then runs in."""
MATCHED = 0.3
"""How much values inside the graph count beside outputs, before any step."""
LOOKED_AT, BYTES = 128, 1 << 26
"""Samples whose answers say how much each goal counts, at most, and what these may take in memory."""


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
    judge: Callable[[Values, Values], Tensor] | None = None,
    labels: tuple[Sequence[int], Sequence[int]] | None = None,
    mirrored: bool = False,
    matches: bool = False,
    mixed: bool = True,
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
        judge: a loss of the user's own in place of ours, from the values of both models by name.
        labels: the class of each sample, and of each of the selection.
        mirrored: whether half of the pictures are mirrored left to right.
        matches: whether results of layers that lost inputs only are compared, too.
        mixed: whether draws are mixtures of two samples, where these have a mean.

    Raises:
        ArgumentError: there are no weights to train.
        UnsupportedError: an operator on the way does not run in torch.
    """
    net = Differentiable(model, precision=_precision(model), segments=_segments(model), fused=True)
    net.trainable(())
    names = trained(model, net)
    if not names:
        raise ArgumentError("recover: the model has no floating weights to train", "leave recover out")
    few = [narrow(feed) for feed in samples]
    inner = _inner(dense, model, goals, net, (samples[0], few[0]), run) if matches and not judge else ()
    values = [goal.value for goal in (*goals, *inner)]
    asked = teacher(dense, values, samples, axes, run)
    answers = _looked_at(asked, samples)
    stack = stacked(lambda feeds: net.run(feeds, values), few, axes)
    marks = None if labels is None else _marks(goals, answers[0], labels)
    lesson = Lesson(
        net=net,
        weights=weights(net, names, rank, run.seed),
        aims=aims(goals, answers),
        teacher=asked,
        draws=draws(dense, samples, run.seed, marks and marks[0], mirrored, mixed),
        selection=selection,
        narrow=narrow,
        stack=stack,
        judge=judge,
        labels=marks and marks[1],
        label_scale=label_scale(torch.from_numpy(marks[0])) if marks else 1.0,
        inner=aims(inner, answers) if inner else (),
    )
    if inner:
        lesson.balance(MATCHED)
    return lesson


def _inner(
    dense: ir.Model,
    model: ir.Model,
    goals: Sequence[Goal],
    net: Differentiable,
    feeds: tuple[Feed, Feed],
    run: Run,
) -> tuple[Goal, ...]:
    """Values inside that both models have in one shape, seen on a feed of each."""
    found = matched(dense, model, goals)
    if not found:
        return ()
    names = [goal.value for goal in found]
    (answer,) = teacher(dense, names, (), {}, run).answers([feeds[0]])
    with torch.no_grad():
        small = net.run(feeds[1], names)
    return small_enough(found, {name: torch.from_numpy(array) for name, array in answer.items()}, small)


def _looked_at(asked: Teacher, samples: Sequence[Feed]) -> list[dict[str, Tensor]]:
    """What the dense model says to the first samples: two at least, and as many as are not too large."""
    found: list[dict[str, Tensor]] = []
    size = 0
    for feed in samples[:LOOKED_AT]:
        (answer,) = asked.answers([feed])
        found.append({name: torch.from_numpy(array) for name, array in answer.items()})
        size += sum(array.nbytes for array in answer.values())
        if size > BYTES and len(found) > 1:
            break
    return found


def _marks(
    goals: Sequence[Goal], answer: Values, labels: tuple[Sequence[int], Sequence[int]]
) -> tuple[Array, Array]:
    """Labels as distributions over the classes of the first output that has one class per sample.

    Raises:
        ArgumentError: there is no such output, or a label is none of its classes.
    """
    goal = next((goal for goal in goals if goal.kind == "classes"), None)
    classes = 0 if goal is None else answer[goal.value].shape[goal.axis]
    if goal is None or classes != answer[goal.value].numel():
        raise ArgumentError("labels: no output of the model holds one class per sample", "leave labels out")
    wrong = next((label for part in labels for label in part if not 0 <= label < classes), None)
    if wrong is not None:
        raise ArgumentError(f"labels: {wrong} is no class of output '{goal.output}', which has {classes}")
    one, two = (np.eye(classes, dtype=np.float32)[list(part)] for part in labels)
    return one, two


def _segments(model: ir.Model) -> int:
    """Parts that are computed again on the way back, where all that a graph keeps may not fit into memory."""
    large = sum(
        value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None
    )
    return SEGMENTS if large > LARGE else 0


def _precision(model: ir.Model) -> str:
    """Half precision is trained in single precision, and rounded at the end."""
    kinds = {value.dtype for value in model.graph.initializers.values()}
    return "float32" if kinds & {ir.DataType.FLOAT16, ir.DataType.BFLOAT16} else ""
