"""How samples run together in torch: as rows of one batch where that gives what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor

Feed = Mapping[str, Array]
Runs = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
TRIED = 3
"""Samples on which it is found out whether they may run together."""
SAME = 1e-3
"""Difference, relative to the largest element, up to which a row is what the sample gives alone."""


@dataclass(frozen=True)
class Stack:
    """How single samples become one batch.

    Attributes:
        axes: of each input, the axis along which samples follow each other; others belong to all samples.
        results: the same of each value that comes out; None where samples run one by one.
    """

    axes: Mapping[str, int]
    results: Mapping[str, int] | None = None

    @property
    def several(self) -> bool:
        """Whether more than one sample runs at a time."""
        return self.results is not None

    def feeds(self, feeds: Sequence[Feed]) -> dict[str, Tensor]:
        """Samples as one feed."""
        return {
            name: torch.from_numpy(
                np.concatenate([feed[name] for feed in feeds], self.axes[name])
                if name in self.axes and len(feeds) > 1
                else np.ascontiguousarray(array)
            )
            for name, array in feeds[0].items()
        }

    def answers(self, answers: Sequence[Mapping[str, Array]]) -> dict[str, Tensor]:
        """What the dense model says to each, as the batch gives it."""
        assert self.results is not None or len(answers) == 1
        return {
            name: torch.from_numpy(
                np.concatenate([each[name] for each in answers], (self.results or {})[name])
                if len(answers) > 1
                else np.ascontiguousarray(array)
            )
            for name, array in answers[0].items()
        }

    def fits(self, feeds: Sequence[Feed]) -> bool:
        """Whether samples have the same shapes, and what belongs to all of them is the same."""
        first = feeds[0]
        return all(
            array.shape == feed[name].shape and (name in self.axes or np.array_equal(array, feed[name]))
            for feed in feeds[1:]
            for name, array in first.items()
        )


def stacked(runs: Runs, feeds: Sequence[Feed], axes: Mapping[str, int]) -> Stack:
    """How samples of a model may run: together only where each result is the samples' own, one by one.

    Args:
        runs: runs the model.
        feeds: some samples.
        axes: along which samples of each input follow each other.
    """
    alone, whole = Stack(axes), Stack(axes, {})
    feeds = feeds[:TRIED]
    if len(feeds) < 2 or not axes or not whole.fits(feeds):
        return alone
    with torch.no_grad():
        singles = [runs(alone.feeds([feed])) for feed in feeds]
        try:
            together = runs(whole.feeds(feeds))
        except Exception:  # torch and the interpreter raise a dozen types where shapes do not fit
            return alone
    results = {name: _axis([each[name] for each in singles], found) for name, found in together.items()}
    if any(axis is None for axis in results.values()):
        return alone
    return Stack(axes, {name: axis for name, axis in results.items() if axis is not None})


def _axis(singles: Sequence[Tensor], together: Tensor) -> int | None:
    """The axis along which results of single samples make up that of all; None where they do not."""
    for axis in range(together.dim()):
        try:
            expected = torch.cat(list(singles), axis)
        except RuntimeError:
            continue
        if expected.shape != together.shape:
            continue
        gap = (expected - together).abs().max()
        if bool(gap <= SAME * expected.abs().max()):
            return axis
    return None
