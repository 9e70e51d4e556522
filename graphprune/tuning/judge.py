"""What a candidate loses against the dense model: the drop of its worst output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graphprune.errors import ModelError
from graphprune.ir.arrays import Doubles
from graphprune.pipeline import verdict
from graphprune.pipeline.alike import typed
from graphprune.pipeline.runner import Runner, runner
from graphprune.pipeline.samples import Judging
from graphprune.pipeline.settings import Gating
from graphprune.runtime.gaps import distribution
from graphprune.runtime.session import Feeds
from graphprune.tuning import columns, smooth
from graphprune.tuning.blur import blurred
from graphprune.tuning.trial import Loss

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes.outputs import Judged, UserKind
    from graphprune.runtime.drop import Drop

SIGNS = 0.03
"""Share of each sign from which on single numbers may be logits."""
FAR = 3.0
"""Times what may be lost that is far too much."""
KEPT_BYTES = 2**28
"""Outputs of the dense model that are kept, so that it runs once over the samples."""


class Judge(Protocol):
    """Says what a model loses."""

    def loss(self, small: ir.Model, judging: Judging) -> Loss:
        """Over some samples."""
        ...

    def estimate(self, small: ir.Model, judging: Judging) -> Loss:
        """Over all such inputs, as some samples show it: with the least variance, to choose by."""
        ...

    def said(self, judging: Judging) -> tuple[str, ...]:
        """A line for each thing that is judged: how."""
        ...


@dataclass(frozen=True)
class Remembering(Runner):
    """The dense model, which runs once per sample as long as its outputs find room."""

    kept: dict[int, dict[str, np.ndarray]] = field(default_factory=dict, compare=False)

    def __call__(self, feed: Feeds) -> dict[str, np.ndarray]:
        """What it gives."""
        key = hash(tuple((name, feed[name].shape, feed[name].tobytes()) for name in sorted(feed)))
        if key in self.kept:
            return self.kept[key]
        found = super().__call__(feed)
        size = sum(array.nbytes for array in found.values())
        if size * (len(self.kept) + 1) <= KEPT_BYTES:
            self.kept[key] = found
        return found


@dataclass(frozen=True)
class Recording(Runner):
    """A model, and what it gave.

    Attributes:
        names: of outputs that are kept.
        kept: arrays of each, sample after sample.
    """

    names: frozenset[str] = frozenset()
    kept: dict[str, list[np.ndarray]] = field(default_factory=dict, compare=False)

    def __call__(self, feed: Feeds) -> dict[str, np.ndarray]:
        """What it gives."""
        found = super().__call__(feed)
        for name in self.names & found.keys():
            self.kept.setdefault(name, []).append(found[name])
        return found


@dataclass(eq=False)
class DropJudge:
    """The drop of decisions, likelihoods or values, which needs no labels.

    Attributes:
        dense: the model in normal form.
        outputs: how each is judged.
        settings: how models run.
    """

    dense: ir.Model
    outputs: tuple[Judged, ...]
    settings: Gating
    runs: Remembering = field(init=False)
    _besides: tuple[Judged, ...] | None = field(init=False, default=None)
    _noisy: dict[tuple[int, ...], Judging | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        run = runner(self.dense, self.settings)
        self.runs = Remembering(run.session, run.inputs, run.timeout)

    def drops(self, small: ir.Model, judging: Judging) -> tuple[Drop, ...]:
        """Of every output; of one that may be two things as both."""
        return verdict.drops(self.runs, self._runner(small), self._every(judging), judging)

    def _every(self, judging: Judging) -> tuple[Judged, ...]:
        """All outputs, and once more those that may be something else: the first samples decide for all."""
        if self._besides is None:
            asked = [each for each in self.outputs if each.name not in self.settings.outputs]
            found = (self._beside(each, judging) for each in asked)
            self._besides = tuple(each for each in found if each is not None)
        return (*self.outputs, *self._besides)

    def _beside(self, judged: Judged, judging: Judging) -> Judged | None:
        """What else an output may be: a value beside a logit, or values beside classes."""
        arrays = (self.runs(feed).get(judged.name) for feed in judging.feeds())
        if judged.kind == "values" and judged.single and has_both_signs(arrays):
            return replace(judged, kind="scores", scale="logits")
        if judged.kind != "classes":
            return None
        rows = columns.sampled(arrays, judged.axis)
        raw = judged.scale == "logits" and len(rows) <= len(judging)
        doubtful = columns.has_one_answer(rows) or (raw and columns.move_together(rows))
        return replace(judged, kind="values") if doubtful else None

    def kinds(self, judging: Judging) -> dict[str, UserKind]:
        """What candidates are told of outputs, besides what the user said: what else they may be."""
        kinds: dict[str, UserKind] = {"scores": "scores", "values": "values"}
        return {each.name: kinds[each.kind] for each in self._every(judging)[len(self.outputs) :]}

    def _runner(self, small: ir.Model) -> Runner:
        require_inputs(self.dense, small)
        return runner(small, self.settings, narrow=(partial(typed, small),))

    def loss(self, small: ir.Model, judging: Judging) -> Loss:
        """Of the output that loses most, its uncertainty included.

        Raises:
            ModelError: the samples say nothing about any output.
        """
        return _worst(map(_counted, self.drops(small, judging)))

    def estimate(self, small: ir.Model, judging: Judging) -> Loss:
        """The same, or with a little noise on the samples if that is more; smoothed where it can be.

        Where samples alone tell that far too much is lost, noise is not tried.

        Raises:
            ModelError: the samples say nothing about any output.
        """
        plain = self.smoothed(small, judging)
        bound = self.settings.max_drop
        far = bound is not None and plain.cautious > FAR * bound
        noisy = None if far else self._blurred(judging)
        return plain if noisy is None else max(plain, self.smoothed(small, noisy), key=_cautious)

    def _blurred(self, judging: Judging) -> Judging | None:
        key = tuple(judging.numbers)
        if key not in self._noisy:
            self._noisy[key] = blurred(judging, self.dense)
        return self._noisy[key]

    def smoothed(self, small: ir.Model, judging: Judging) -> Loss:
        """Of the output that loses most: of one class per sample smoothed, of all others counted."""
        run = self._runner(small)
        classes = {each.name: each for each in self.outputs if each.kind == "classes"}
        seen = Recording(run.session, run.inputs, run.timeout, run.narrow, frozenset(classes))
        drops = verdict.drops(self.runs, seen, self._every(judging), judging)
        found = []
        for each in drops:
            mine = _counted(each)
            if mine is not None and each.kind == "classes" and each.name in seen.kept:
                mine = self._likely(classes[each.name], seen.kept[each.name], judging) or mine
            found.append(mine)
        return _worst(found)

    def _likely(self, judged: Judged, small: Sequence[np.ndarray], judging: Judging) -> Loss | None:
        """None where an output does not hold one distribution per sample."""
        if len(small) != len(judging) or any(each.size != small[0].size for each in small):
            return None
        dense = [self.runs(feed)[judged.name] for feed in judging.feeds()]
        if any(
            one.shape != two.shape or one.size != one.shape[judged.axis]
            for one, two in zip(dense, small, strict=True)
        ):
            return None
        one, two = (_distributions(judged, arrays) for arrays in (dense, small))
        if not smooth.usable(one, two):
            return None
        value, error = smooth.estimate(one, two)
        return Loss(value, *smooth.interval(value, error, len(one)), error, judged.name)

    def said(self, judging: Judging) -> tuple[str, ...]:
        """The kind taken for each output, as the first samples show it."""
        _ = self._every(judging)
        some = Judging([next(judging.feeds())], judging.source, judging.model)
        kinds = [(each.name, each.kind) for each in self.drops(self.dense, some)]
        return tuple(f"{name} as {kind}" for name, kind in kinds)


def _cautious(each: Loss) -> float:
    return each.cautious


def _counted(each: Drop) -> Loss | None:
    """The loss of an output as its samples show it; None where they say nothing."""
    if each.drop is None:
        return None
    return Loss(each.drop.value, each.drop.low, each.drop.high, each.drop.error, each.name)


def _worst(losses: Iterable[Loss | None]) -> Loss:
    found = [each for each in losses if each is not None]
    if not found:
        raise ModelError("the samples say nothing about any output of the model")
    return max(found, key=lambda each: (each.value + each.error, each.where))


def _distributions(judged: Judged, arrays: Sequence[np.ndarray]) -> Doubles:
    rows = np.stack([each.reshape(-1) for each in arrays]).astype(np.float64)
    return distribution(rows, judged.scale)


def has_both_signs(arrays: Iterable[np.ndarray | None]) -> bool:
    """Whether numbers say yes and no, as logits do: a few in a hundred at least are above zero, and below."""
    above = below = 0
    for array in arrays:
        if array is not None and array.dtype.kind == "f":
            above += int((array > 0).sum())
            below += int((array < 0).sum())
    return min(above, below) > SIGNS * (above + below)


def require_inputs(dense: ir.Model, small: ir.Model) -> None:
    """Refuse a candidate that takes other inputs: it would replace nothing.

    Raises:
        ModelError: naming the input.
    """
    given = {value.name: value for value in dense.graph.inputs}
    for value in small.graph.inputs:
        was = given.get(value.name)
        if was is not None and str(was.shape) != str(value.shape):
            raise ModelError(f"it takes {value.name!r} as {value.shape}, the model as {was.shape}")


def shown(lines: Sequence[str]) -> str:
    """How things are judged, as one line."""
    return f"judged by the drop of output {', '.join(lines)}"
