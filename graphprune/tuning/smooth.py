"""What a classifier loses, with less variance than counting its changed answers has.

Of a few hundred samples only those near a border between classes can change, and a handful does. How a cut
moves logits, though, every sample shows. So each sample is moved as samples of like margin were, and what it
loses is the mean over these: each observation gives way to its conditional expectation given the margin
(Rao-Blackwell), estimated by nearest neighbours. It assumes that samples of like margin move alike, so it is
for choosing between candidates; what a result is quoted with is counted.
"""

from __future__ import annotations

import math

import numpy as np

from graphprune.ir.arrays import Bools, Doubles, Ids

MOST = 1000
"""With more samples, counting is as good."""
NEAR, NEAREST = 4, 64
"""One in so many samples is near to one, and so many at most."""
ELEMENTS = 1 << 20
"""Numbers that are held at a time, about."""
RESAMPLED = 30
"""Bootstrap samples that the standard error is taken from."""
LEAST = 1e-30
"""The least probability."""


def estimate(dense: Doubles, small: Doubles) -> tuple[float, float]:
    """The probability that answers of the small model lose, by the dense model's; and its standard error.

    Args:
        dense: distributions of the dense model [samples, classes].
        small: the same of the small model.

    Returns:
        The estimate, and the spread that it has over bootstrap samples (Efron, 1979).
    """
    moved = _Moves(dense, small)
    every = np.arange(len(dense))
    rng = np.random.default_rng(0)
    again = [moved.lost(rng.choice(every, len(every))) for _ in range(RESAMPLED)]
    return moved.lost(every), float(np.std(again, ddof=1))


class _Moves:
    """Log-probabilities in the order of the dense model's classes, and how far the small model moves each."""

    def __init__(self, dense: Doubles, small: Doubles) -> None:
        order = np.argsort(-dense, axis=1, kind="stable")
        self.chances: Doubles = np.take_along_axis(dense, order, 1)
        self.logs: Doubles = np.log(np.maximum(self.chances, LEAST))
        self.moves: Doubles = np.log(np.maximum(np.take_along_axis(small, order, 1), LEAST)) - self.logs
        self.margins: Doubles = self.logs[:, 0] - self.logs[:, 1]

    def lost(self, taken: Ids) -> float:
        """The mean loss of these samples, each moved as its nearest among them."""
        taken = taken[np.argsort(self.margins[taken], kind="stable")]
        count = len(taken)
        near = max(1, min(NEAREST, count // NEAR))
        first = np.clip(np.arange(count) - near // 2, 0, count - near)
        rows = max(1, ELEMENTS // (near * self.logs.shape[1]))
        total = 0.0
        for start in range(0, count, rows):
            mine = taken[start : start + rows]
            like = taken[first[start : start + rows, None] + np.arange(near)]
            answers = (self.logs[mine][:, None] + self.moves[like]).argmax(axis=-1)
            chances = self.chances[mine]
            total += float((chances[:, :1] - np.take_along_axis(chances, answers, 1)).mean(axis=1).sum())
        return total / count


def usable(dense: Doubles, small: Doubles) -> bool:
    """Whether there is anything to move: some samples, two classes or more, and only numbers."""
    finite: Bools = np.isfinite(dense) & np.isfinite(small)
    return 1 < len(dense) <= MOST and dense.shape[1] > 1 and bool(finite.all())


def interval(value: float, error: float, samples: int) -> tuple[float, float]:
    """Of 95 %, within what a loss may be."""
    from graphprune.runtime.estimate import quantile

    reach = quantile(samples) * error if math.isfinite(error) else math.inf
    return max(0.0, value - reach), min(1.0, value + reach)
