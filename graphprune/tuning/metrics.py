"""A metric in place of the drop: one of the common ones, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from graphprune.doors import Origin, package
from graphprune.errors import ArgumentError, DataError, did_you_mean
from graphprune.ir.arrays import Array, Doubles
from graphprune.ir.names import quote
from graphprune.pipeline.alike import typed
from graphprune.pipeline.metric import load
from graphprune.pipeline.runner import Runner, runner
from graphprune.pipeline.samples import Judging
from graphprune.pipeline.settings import Gating
from graphprune.runtime.data import read_arrays
from graphprune.runtime.estimate import ratio
from graphprune.tuning.judge import require_inputs
from graphprune.tuning.scores import SCORES
from graphprune.tuning.trial import Loss

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.runtime.session import Feeds

Called = Callable[..., object]
"""Takes what runs a model on a sample, all samples, and labels where there are some."""
HINT = "name a function of a run function and the samples, e.g. --metric mine:spread for mine.py here"
PARTS = 8
"""Parts of the samples that a metric of one number is taken of, so that it has a standard error."""


def read_labels(path: Path) -> Array:
    """Labels, one per sample along the first axis: an .npy, or an .npz with one array or one called labels.

    Raises:
        DataError: the file cannot be read, or holds several arrays.
    """
    found = read_arrays(path)
    if "labels" in found:
        return found["labels"]
    if len(found) != 1:
        raise DataError(f"{quote(str(path))} holds {len(found)} arrays", "call the one with labels 'labels'")
    return next(iter(found.values()))


@dataclass(eq=False)
class MetricJudge:
    """How far a metric falls below the dense model's, paired by sample.

    Attributes:
        name: of a common one, or module:function.
        dense: the model in normal form.
        settings: how models run.
        labels: of all samples.
    """

    name: str
    dense: ir.Model
    settings: Gating
    labels: Array | None = None
    known: dict[tuple[int, ...], Doubles] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if ":" not in self.name and self.name not in SCORES:
            hint = did_you_mean(self.name, SCORES)
            raise ArgumentError(f"no metric is called {quote(self.name)}", f"{hint}, or name module:function")

    def loss(self, small: ir.Model, judging: Judging) -> Loss:
        """Over some samples.

        Raises:
            DataError: labels are missing, or no output fits.
            PluginError: the function failed, or returned no numbers.
        """
        require_inputs(self.dense, small)
        one = self._dense(judging)
        two = self._numbers(runner(small, self.settings, narrow=(partial(typed, small),)), judging)
        if one.shape != two.shape:
            raise self._origin.fault(f"returns {one.size} numbers for one model and {two.size} for the other")
        found = ratio((one - two).tolist(), [1.0] * one.size)
        assert found is not None
        return Loss(found.value, found.low, found.high, found.error, self.name)

    def estimate(self, small: ir.Model, judging: Judging) -> Loss:
        """The same: of a metric nothing but its numbers is known."""
        return self.loss(small, judging)

    def said(self, judging: Judging) -> tuple[str, ...]:
        """The metric, and what it is of the dense model."""
        numbers = self._dense(judging)
        return (f"the metric {self.name}, {float(numbers.mean()):.4f} of the dense model",)

    def _dense(self, judging: Judging) -> Doubles:
        key = tuple(judging.numbers)
        if key not in self.known:
            self.known[key] = self._numbers(runner(self.dense, self.settings), judging)
        return self.known[key]

    @property
    def _origin(self) -> Origin:
        return Origin(f"metric {quote(self.name)}", code=package(self.name.partition(":")[0]))

    def _numbers(self, run: Runner, judging: Judging) -> Doubles:
        feeds = list(judging.feeds())
        labels = None if self.labels is None else self._labels(self.labels, judging, len(feeds))
        if ":" not in self.name:
            return SCORES[self.name]([run(feed) for feed in feeds], feeds, labels)
        function = cast("Called", load(self.name, HINT).function)
        whole = self._called(function, run, feeds, labels)
        if whole.size == len(feeds) or len(feeds) < 2 * PARTS:
            return whole
        parts = np.array_split(np.arange(len(feeds)), PARTS)
        some = [
            self._called(function, run, [feeds[at] for at in part], None if labels is None else labels[part])
            for part in parts
        ]
        return np.concatenate(some)

    def _called(self, function: Called, run: Runner, feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
        given = (run, feeds) if labels is None else (run, feeds, labels)
        with self._origin.blamed():
            found = function(*given)
        try:
            numbers = np.asarray(found, np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        if not numbers.size or not np.isfinite(numbers).all():
            raise self._origin.fault("returns neither a number nor one per sample")
        return numbers

    def _labels(self, labels: Array, judging: Judging, count: int) -> Array:
        numbers = np.asarray(judging.numbers, np.int64)
        if len(numbers) != count or numbers.max(initial=-1) >= len(labels):
            raise DataError(
                f"there are {len(labels)} labels, and a sample has the number {numbers.max(initial=-1)}",
                "give one label per sample, in their order",
            )
        return np.asarray(labels[numbers])
