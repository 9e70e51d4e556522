"""Samples by number, so that a pool may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError
from graphprune.ir.fixed import NOTHING
from graphprune.runtime.data import layout, load_inputs

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pool:
    """Samples to choose from.

    Attributes:
        count: how many there are.
        take: arrays by input name that hold the samples of these numbers, in the given order, stacked as
            `graphprune.runtime.data` expects them in a file.
        what: what a sample is, for messages.
    """

    count: int
    take: Callable[[Sequence[int]], Arrays]
    what: str = "samples"


def array_pool(path: Path, model: ir.Model, constants: Mapping[str, np.ndarray] = NOTHING) -> Pool:
    """The samples of an .npz, an .npy, or a folder of them.

    Raises:
        DataError: the files do not fit the model or each other.
    """
    return pool_of(load_inputs(path, model, constants), model)


def pool_of(items: Sequence[Mapping[str, np.ndarray]], model: ir.Model) -> Pool:
    """The samples of several sets of arrays, one set after the other."""
    layouts = [layout(arrays, model) for arrays in items]
    if len({(*sorted(found.axes.items()), found.step, found.stacked) for found in layouts}) > 1:
        raise DataError("the files of the folder hold samples of different shapes", "give one file")
    axes = layouts[0].axes
    starts = np.cumsum([0, *(found.count for found in layouts)])

    def take(numbers: Sequence[int]) -> Arrays:
        owners = np.searchsorted(starts, numbers, side="right") - 1
        pieces = [
            layouts[owner].take(items[owner], number - int(starts[owner]))
            for owner, number in zip(owners, numbers, strict=True)
        ]
        return {
            name: np.concatenate([piece[name] for piece in pieces], axes[name]) if name in axes else array
            for name, array in pieces[0].items()
        }

    return Pool(int(starts[-1]), take)
