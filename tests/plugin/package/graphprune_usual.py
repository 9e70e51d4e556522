"""A criterion of somebody else, and a method that is a preset of `prune`'s arguments."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphprune.plugin import Criterion, Evidence, Sink, Structured, by_sink, inputs


def usual(sink: Sink, evidence: Evidence) -> np.ndarray:
    """Of every column of a weight that reads the Group: the sum of |w| times the mean |x| that it reads."""
    vector = sink.vector(evidence.statistics)
    return sink.column_sums(1) * sink.per_column(vector.absolute / vector.count)


USUAL = Criterion(by_sink(usual), "sum of |w| times the mean of |x|", needs=inputs, normaliser="mean")


@dataclass(frozen=True)
class Frugal(Structured, criterion="usual", scope="local", repair="bias", driver="oneshot"):
    """Removes the Units that matter least on average, and keeps their mean as a bias."""

    name: ClassVar[str] = "frugal"
