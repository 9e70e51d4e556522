"""What a workload is: a trained model, the task it was trained for, and how well it does it, item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]
ModelSource = str | Path | bytes


class Kind(Enum):
    """What stands behind a figure; figures of different kinds never share a table."""

    GROUND_TRUTH = "G"  # real data, real labels
    SYNTHETIC = "S"  # labels known because the input was made from them
    AGREEMENT = "A"  # same answer as the dense model: 1.0 for the dense model by construction


@dataclass(frozen=True)
class Evaluation:
    """One model on one workload.

    Args:
        metrics: name to value, the headline metric first.
        items: a score per item in a fixed order, so that two models compare item by item; their mean is the
            headline metric, unless the workload says otherwise.
    """

    metrics: Mapping[str, float]
    items: NDArray[np.float64]

    @property
    def standard_error(self) -> float:
        """Standard error of the mean of `items`."""
        return float(self.items.std(ddof=1) / np.sqrt(len(self.items)))


@dataclass(frozen=True)
class Difference:
    """Mean of (model - dense) over the same items, with its standard error."""

    mean: float
    standard_error: float


def paired(model: Evaluation, dense: Evaluation) -> Difference:
    """Compare two evaluations of the same items; far sharper than comparing two means."""
    change = model.items - dense.items
    return Difference(float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change))))


@dataclass(frozen=True)
class Workload:
    """A real trained model with its task.

    Args:
        name: how the command line calls it.
        kind: what the figures mean.
        metric: the headline metric in words.
        expected: the dense figure that the design page records, or None where it has none.
        about: producer, opset and what is hard about pruning it.
        fetch: puts the dense model into a cache folder (once) and returns its path.
        evaluate: scores a model on at most `limit` items (None: all).
        large: takes minutes; left out where all workloads are meant.
        fixed: inputs that are fixed before the model is pruned.
        calibration: n unlabelled inputs by graph input name, disjoint from the items that `evaluate` uses.
    """

    name: str
    kind: Kind
    metric: str
    expected: float | None
    about: str
    fetch: Callable[[Path], Path]
    evaluate: Callable[[ModelSource, int | None], Evaluation]
    calibration: Callable[[int], Arrays]
    large: bool = False
    fixed: Mapping[str, float] = field(default_factory=dict)
