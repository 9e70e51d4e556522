"""Draws that `recover` does not make: ids that are another sample's in places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphprune.autograd.training.draws import Draws, Feed
from graphprune.ir.arrays import Array
from graphprune.runtime.free import MARKS


@dataclass(frozen=True)
class Tried(Draws):
    """Draws of which a share is crossed.

    Args:
        crossed: share of the draws whose ids between two places are those of another sample.
    """

    crossed: float = 0.0

    def draw(self, epoch: int, number: int) -> dict[str, Array]:
        """A sample as this epoch shows it; no id is where it was not in a sample."""
        found = super().draw(epoch, number)
        rng = np.random.default_rng([self.seed, epoch, 4, number])
        names = id_inputs(self.samples) if self.crossed else ()
        if not names or rng.random() >= self.crossed:
            return found
        other = self.samples[int(rng.integers(len(self.samples)))]
        size = found[names[0]].shape[-1]
        first, last = sorted(map(int, rng.integers(0, size + 1, 2)))
        inside = (np.arange(size) >= first) & (np.arange(size) < last)
        return found | {name: np.where(inside, other[name], found[name]) for name in names}


def id_inputs(samples: Sequence[Feed]) -> tuple[str, ...]:
    """Inputs of whole numbers in rows of one length; none where anything else differs, such as a mask."""
    first = samples[0]
    names = [name for name in first if any(not np.array_equal(each[name], first[name]) for each in samples)]
    shapes = {each[name].shape for name in names for each in samples}
    if len(shapes) != 1:
        return ()
    for name in names:
        every = np.stack([each[name] for each in samples])
        if every.ndim < 3 or (every != np.round(every)).any() or len(np.unique(every)) <= MARKS:
            return ()
    return tuple(names)
