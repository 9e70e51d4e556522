"""What a candidate loses against the dense model: the drop of its worst output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graphprune.errors import ModelError
from graphprune.pipeline import verdict
from graphprune.pipeline.alike import typed
from graphprune.pipeline.runner import Runner, runner
from graphprune.pipeline.samples import Judging
from graphprune.pipeline.settings import Gating
from graphprune.runtime.session import Feeds
from graphprune.tuning.trial import Loss

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.axes.outputs import Judged
    from graphprune.runtime.drop import Drop

KEPT_BYTES = 2**28
"""Outputs of the dense model that are kept, so that it runs once over the samples."""


class Judge(Protocol):
    """Says what a model loses."""

    def loss(self, small: ir.Model, judging: Judging) -> Loss:
        """Over some samples."""
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

    def __post_init__(self) -> None:
        run = runner(self.dense, self.settings)
        self.runs = Remembering(run.session, run.inputs, run.timeout)

    def drops(self, small: ir.Model, judging: Judging) -> tuple[Drop, ...]:
        """Of every output."""
        require_inputs(self.dense, small)
        run = runner(small, self.settings, narrow=(partial(typed, small),))
        return verdict.drops(self.runs, run, self.outputs, judging)

    def loss(self, small: ir.Model, judging: Judging) -> Loss:
        """Of the output that loses most, its uncertainty included.

        Raises:
            ModelError: the samples say nothing about any output.
        """
        found = [(each.drop, each.name) for each in self.drops(small, judging) if each.drop is not None]
        if not found:
            raise ModelError("the samples say nothing about any output of the model")
        drop, name = max(found, key=lambda pair: (pair[0].value + pair[0].error, pair[1]))
        return Loss(drop.value, drop.low, drop.high, drop.error, name)

    def said(self, judging: Judging) -> tuple[str, ...]:
        """The kind taken for each output, as the first samples show it."""
        some = Judging([next(judging.feeds())], judging.source, judging.model)
        kinds = {each.name: each.kind for each in self.drops(self.dense, some)}
        return tuple(f"{name} as {kind}" for name, kind in kinds.items())


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
