"""How samples run together in torch, where that gives what each gives alone.

As rows of one batch, or, where a batch of one is written into the graph (most detectors), mapped over: torch
then adds the axis behind the graph's back (`torch.func.vmap`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from graphprune.ir.arrays import Array
from graphprune.ops.torch.call import Tensor

Feed = Mapping[str, Array]
Tensors = Mapping[str, Tensor]
Joined = Mapping[str, "Tensor | Array"]
Runs = Callable[[Mapping[str, Tensor | Array]], dict[str, Tensor]]
How = Literal["alone", "rows", "mapped"]
TRIED = 3
"""Samples on which it is found out whether they may run together."""
SAME = 1e-3
"""Difference, relative to the largest element, up to which a row is what the sample gives alone."""


@dataclass(frozen=True)
class Stack:
    """How single samples become one batch.

    Attributes:
        axes: of each input, the axis along which samples follow each other; others belong to all samples.
        how: one by one, as rows, or mapped over.
        results: of each value that comes out, the axis along which rows follow each other.
    """

    axes: Mapping[str, int]
    how: How = "alone"
    results: Mapping[str, int] | None = None

    @property
    def several(self) -> bool:
        """Whether more than one sample runs at a time."""
        return self.how != "alone"

    def run(self, runs: Runs, joined: Joined) -> dict[str, Tensor]:
        """What a model gives for samples.

        Args:
            runs: runs the model on one feed.
            joined: what `join` made of the samples.
        """
        if self.how != "mapped":
            return runs(joined)
        shared = {name: array for name, array in joined.items() if name not in self.axes}
        own = {name: joined[name] for name in self.axes}
        with warnings.catch_warnings():  # of operators that torch maps over in a loop
            warnings.simplefilter("ignore")
            found: dict[str, Tensor] = torch.func.vmap(lambda feed: runs({**shared, **feed}))(own)
        return found

    def join(self, feeds: Sequence[Feed]) -> Joined:
        """Feeds of one sample each as one; only one where samples run alone."""
        if self.how != "mapped":
            return {name: _laid_out(self._joined(name, feeds)) for name in feeds[0]}
        shared = {name: array for name, array in feeds[0].items() if name not in self.axes}
        return shared | {
            name: torch.from_numpy(np.stack([feed[name] for feed in feeds])) for name in self.axes
        }

    def _joined(self, name: str, feeds: Sequence[Feed]) -> Array:
        if len(feeds) == 1 or name not in self.axes:
            return np.ascontiguousarray(feeds[0][name])
        return np.concatenate([feed[name] for feed in feeds], self.axes[name])

    def answers(self, answers: Sequence[Mapping[str, Array]]) -> dict[str, Tensor]:
        """What the dense model says to each sample, as `run` gives it."""
        return {name: self._answer(name, [each[name] for each in answers]) for name in answers[0]}

    def _answer(self, name: str, arrays: Sequence[Array]) -> Tensor:
        if self.how == "mapped":
            return torch.from_numpy(np.stack(arrays))
        if len(arrays) == 1:
            return torch.from_numpy(np.ascontiguousarray(arrays[0]))
        assert self.results is not None
        return torch.from_numpy(np.concatenate(arrays, self.results[name]))

    def parts(self, feeds: Sequence[Feed]) -> list[list[int]]:
        """Places of samples that run together."""
        found: list[list[int]] = []
        for at, feed in enumerate(feeds):
            alike = (part for part in found if self.fits([feeds[part[0]], feed]))
            mine = next(alike, None) if self.several else None
            if mine is None:
                found.append([at])
            else:
                mine.append(at)
        return found

    def split(self, joined: Mapping[str, Array], count: int) -> list[dict[str, Array]]:
        """What each of some samples gave, of what they gave as rows."""
        assert self.results is not None
        pieces = {name: np.split(array, count, self.results[name]) for name, array in joined.items()}
        return [{name: each[at] for name, each in pieces.items()} for at in range(count)]

    def fits(self, feeds: Sequence[Feed]) -> bool:
        """Whether samples have the same shapes, and what belongs to all of them is the same."""
        first = feeds[0]
        return all(
            array.shape == feed[name].shape and (name in self.axes or np.array_equal(array, feed[name]))
            for feed in feeds[1:]
            for name, array in first.items()
        )


def stacked(runs: Runs, feeds: Sequence[Feed], axes: Mapping[str, int], maps: bool = True) -> Stack:
    """How samples of a model may run: together only where each result is the sample's own.

    Args:
        runs: runs the model.
        feeds: some samples.
        axes: along which samples of each input follow each other; none if each is a whole feed.
        maps: whether torch runs the model, and so may map over samples.
    """
    alone, first = Stack(axes), feeds[0]
    varying = [name for name in first if any(not np.array_equal(feed[name], first[name]) for feed in feeds)]
    every = Stack(axes or dict.fromkeys(varying, 0))
    feeds = [feed for feed in feeds if every.fits([first, feed])][:TRIED]
    if len(feeds) < 2 or not every.axes:
        return alone
    with torch.no_grad():
        singles = [alone.run(runs, alone.join([feed])) for feed in feeds]
        results = _rows(runs, feeds, singles, every) if axes else None
        if results is not None:
            return Stack(axes, "rows", results)
        mapped = Stack(every.axes, "mapped")
        return mapped if maps and _maps(runs, feeds, singles, mapped) else alone


def _rows(
    runs: Runs, feeds: Sequence[Feed], singles: Sequence[Tensors], every: Stack
) -> dict[str, int] | None:
    """The axis of each result along which rows follow each other; None where they do not."""
    try:
        together = every.run(runs, every.join(feeds))
    except Exception:  # torch and the interpreter raise a dozen types where shapes do not fit
        return None
    found = {name: _axis([each[name] for each in singles], tensor) for name, tensor in together.items()}
    axes = {name: axis for name, axis in found.items() if axis is not None}
    return axes if len(axes) == len(found) else None


def _maps(runs: Runs, feeds: Sequence[Feed], singles: Sequence[Tensors], mapped: Stack) -> bool:
    try:
        together = mapped.run(runs, mapped.join(feeds))
    except Exception:  # operators whose shapes depend on data cannot be mapped over, in a dozen ways
        return False
    return all(
        _same(torch.stack([each[name] for each in singles]), tensor) for name, tensor in together.items()
    )


def _axis(singles: Sequence[Tensor], together: Tensor) -> int | None:
    """The axis along which results of single samples make up that of all; None where they do not."""
    for axis in range(together.dim()):
        try:
            expected = torch.cat(list(singles), axis)
        except RuntimeError:
            continue
        if _same(expected, together):
            return axis
    return None


def _same(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    return bool((expected - found).abs().max() <= SAME * expected.abs().max())


def _laid_out(array: Array) -> Tensor | Array:
    """Pictures with channels last, which convolutions on CPUs are faster with."""
    if array.ndim != 4 or array.dtype != np.float32:
        return array
    return torch.from_numpy(array).contiguous(memory_format=torch.channels_last)
