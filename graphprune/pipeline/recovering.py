"""Training of a compressed model as a pass carries it out: accepted only where no output is worse for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Arrays
from graphprune.ir.clone import copy_model
from graphprune.ir.names import quote
from graphprune.pipeline import fingerprint, labels
from graphprune.pipeline.function import named, origin
from graphprune.pipeline.outcome import interval
from graphprune.pipeline.passes import Context, Subject
from graphprune.pipeline.report import CurvePoint, RecoveredOutput, RecoveryReport
from graphprune.prune.plan import Plan
from graphprune.runtime.holding import digest

if TYPE_CHECKING:
    from graphprune.autograd.training.setting import Trained
    from graphprune.axes.goals import Goal
    from graphprune.pipeline.reference import Reference
    from graphprune.runtime.drop import Drop


@dataclass(frozen=True)
class Recovering:
    """What is asked of a recovery; None leaves a short test to find it.

    Attributes:
        text: the pass that asks.
        seconds: that it may take, where no steps are given.
        steps: of the optimiser.
        batch: samples of a step.
        rate: the largest learning rate.
        rank: of the updates of large matrices; 0 trains all weights.
        labels: a file with the class of each calibration sample.
        loss: a loss of the user's own, as module:function.
        flip: whether half of the pictures are mirrored.
        match: whether results of layers that lost inputs only are compared, too.
        mix: whether samples are mixed.
    """

    text: str
    seconds: float
    steps: int | None = None
    batch: int | None = None
    rate: float | None = None
    rank: int = 0
    labels: str | None = None
    loss: str | None = None
    flip: bool = False
    match: bool = False
    mix: bool = True


def recovered(asked: Recovering, subject: Subject, context: Context) -> tuple[Plan, RecoveryReport]:
    """The plan that replaces weights by trained ones, an empty one where they would be worse, and the report.

    Raises:
        ArgumentError: there is nothing to learn from.
    """
    reference = context.reference
    assert reference is not None
    goals = _goals(asked, subject.model, reference)
    if not goals:
        raise ArgumentError(
            "recover: no output has numbers that a gradient reaches", "leave recover out for this model"
        )
    found = _trained(asked, subject.model, goals, reference, context)
    after = with_weights(subject.model, found.weights)
    before_drops, after_drops = reference.lost((subject.model, after))
    worse = [one.name for one, two in zip(before_drops, after_drops, strict=True) if is_worse(one, two)]
    accepted = bool(found.weights) and not worse
    if worse:
        context.warn(
            f"recover: trained weights make output {quote(worse[0])} worse on samples that they were not "
            "trained on, so the model stays as it was; more samples would help"
        )
    elif not accepted:
        context.warn("recover: no step of the training was better than none, so the model stays as it was")
    plan = Plan(options=subject.options, replaced=found.weights if accepted else {})
    return plan, _report(found, goals, reference, (before_drops, after_drops), accepted)


def _trained(
    asked: Recovering, model: ir.Model, goals: Sequence[Goal], reference: Reference, context: Context
) -> Trained:
    from graphprune.autograd.training.begin import begin
    from graphprune.autograd.training.lesson import Watch
    from graphprune.autograd.training.progress import Checkpoint
    from graphprune.autograd.training.setting import Asked
    from graphprune.autograd.training.train import train

    watch = Watch()
    lesson = begin(
        dense=reference.model,
        model=model,
        goals=goals,
        samples=list(reference.training.feeds()),
        selection=list(reference.selection.feeds()),
        axes=_axes(reference),
        narrow=reference.narrow,
        rank=asked.rank,
        run=context.run,
        judge=None if asked.loss is None else _judge(asked.loss),
        labels=None if asked.labels is None else _labels(asked.labels, reference),
        mirrored=asked.flip,
        matches=asked.match,
        mixed=asked.mix,
    )
    given = Asked(asked.seconds, asked.steps, asked.batch, asked.rate, asked.rank)
    checkpoint = Checkpoint(reference.scratch, _key(asked, model, reference))
    return train(lesson, given, context.run, checkpoint, watch)


def _goals(asked: Recovering, model: ir.Model, reference: Reference) -> tuple[Goal, ...]:
    """What is compared: found in the graph, or for a loss of the user's own the outputs as they are."""
    from graphprune.axes.goals import Goal, find_goals

    if asked.loss is None:
        return find_goals(model, reference.outputs)
    outputs = [value for value in model.graph.outputs if value.dtype and value.dtype.is_floating_point()]
    return tuple(Goal(value.name or "", value.name or "", "values") for value in outputs)


def _judge(name: str) -> Callable[..., Any]:
    """A loss of the user's own; whatever it raises names it.

    Raises:
        ArgumentError: there is no such function.
    """
    hint = "name a function of the outputs of both models by name, small and dense, that returns one number"
    function = named(name, "loss", hint)

    def judged(small: Mapping[str, Any], dense: Mapping[str, Any]) -> Any:
        with origin(name, "loss").blamed():
            return function(small, dense)

    return judged


def _labels(path: str, reference: Reference) -> tuple[list[int], list[int]]:
    """The class of each sample that is trained on, and of each that is chosen by.

    Raises:
        ArgumentError: there are none of the latter.
    """
    if not reference.selection.numbers:
        raise ArgumentError(
            "labels are those of the calibration samples, and samples to choose by were given apart",
            "leave out --selection: a part of the calibration samples then chooses",
        )
    found = labels.read(Path(path), reference.samples)
    training, selection = (
        [*map(int, found[list(part.numbers)])] for part in (reference.training, reference.selection)
    )
    return training, selection


def _key(asked: Recovering, model: ir.Model, reference: Reference) -> str:
    """Of the model, the samples and the arguments: a stopped training of others does not go on here."""
    samples = digest([*reference.training.sets, *reference.selection.sets])
    return f"{fingerprint.weights(model)} {samples} {asked.text}"


def _axes(reference: Reference) -> dict[str, int]:
    """The axis of each input along which samples follow each other; none where each is a feed of its own."""
    from graphprune.runtime.data import layout

    found = [layout(arrays, reference.model) for arrays in reference.training.sets]
    if any(each.stacked for each in found):
        return {}
    return dict(found[0].axes)


def with_weights(model: ir.Model, weights: Arrays) -> ir.Model:
    """A copy of a model with other values of some initializers."""
    copy = copy_model(model).model
    for name, array in weights.items():
        value = copy.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.Tensor(array, dtype=value.const_value.dtype, name=name)
    return copy


def is_worse(before: Drop, after: Drop) -> bool:
    """Whether an output lost more than before, by more than the 95 % interval of the paired difference."""
    from graphprune.runtime.estimate import quantile

    if after.drop is None:
        return before.drop is not None
    if before.drop is None:
        return False
    if len(before.drops) != len(after.drops) or not before.drops:
        return after.drop.low > before.drop.high
    apart = np.asarray(after.drops, np.float64) - np.asarray(before.drops, np.float64)
    apart = apart[np.isfinite(apart)]
    if len(apart) < 2:
        return after.drop.value > before.drop.value
    error = float(apart.std(ddof=1)) / math.sqrt(len(apart))
    return float(apart.mean()) > quantile(len(apart)) * error


def _report(
    found: Trained,
    goals: Sequence[Goal],
    reference: Reference,
    drops: tuple[Sequence[Drop], Sequence[Drop]],
    accepted: bool,
) -> RecoveryReport:
    curve = tuple(
        CurvePoint(p.step, None if math.isnan(p.training) else p.training, p.selection) for p in found.curve
    )
    outputs = tuple(
        RecoveredOutput(one.name, one.kind, interval(one.drop), interval(two.drop))
        for one, two in zip(*drops, strict=True)
    )
    return RecoveryReport(
        goals=tuple(goal.value for goal in goals),
        tensors=found.trained[0],
        weights=found.trained[1],
        samples=len(reference.training),
        selection=len(reference.selection),
        steps=found.pace.steps,
        batch=found.pace.batch,
        rate=found.pace.rate,
        best=found.best,
        accepted=accepted,
        together=found.together,
        seconds=found.seconds,
        curve=curve,
        outputs=outputs,
        versions=dict(found.versions),
    )
