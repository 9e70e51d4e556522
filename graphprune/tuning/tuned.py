"""What a search found: the result, the curve of what else there is, and why it ends there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from graphprune.ir.publish import write_file
from graphprune.pipeline.option import path_of
from graphprune.pipeline.report import Json, Size, plain
from graphprune.shown import Shown, page
from graphprune.tuning.trial import Loss

SCHEMA = 1


@dataclass(frozen=True)
class Point:
    """A candidate of the curve.

    Attributes:
        number: of the candidate.
        pipeline: its passes.
        predicted_ms: latency of one sample, predicted.
        macs: multiply-adds.
        params: elements of weights.
        bytes: of all tensors.
        loss: on the samples that candidates are chosen by.
        left: share of the cost that is left.
        holds: whether it keeps to the bound, as far as these samples tell.
        recipe: the file that makes it.
        model: the file of the model, where it was kept.
    """

    number: int
    pipeline: str
    predicted_ms: float
    macs: int | None
    params: int
    bytes: int
    loss: Loss
    left: float
    holds: bool
    recipe: str = ""
    model: str = ""


@dataclass(frozen=True)
class Final:
    """A candidate that was timed alone against the file as given.

    Attributes:
        number: of the candidate.
        before_ms: latency of the file as given.
        after_ms: of the candidate.
        speedup: ratio of the two, with its 99 % interval.
        speedup_low: one end.
        speedup_high: the other end.
        verdict: faster, slower, or no measurable difference.
        reported: loss on the report part; None where it was not read for this one.
        why: why it is not the result; empty for the result.
    """

    number: int
    before_ms: float
    after_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    verdict: str
    reported: Loss | None = None
    why: str = ""


@dataclass(frozen=True)
class Tuned(Shown):
    """The result of a search.

    Attributes:
        source: the model.
        output: where the result is; empty where it was written nowhere.
        target: what was searched for.
        bound: the most that may be lost.
        judged: how loss is measured.
        samples: in the parts for repair, choice and report.
        before: sizes of the model as given.
        after: of the result.
        chosen: number of the result among the candidates; -1 where it is a copy of the file as given.
        pipeline: passes of the result.
        tried: how many candidates there were, and how many came to nothing.
        failed: likewise.
        points: candidates that none beats in both cost and loss.
        finals: candidates that were timed.
        met: whether bounds of the target are met.
        stopped: why it ends there.
        helps: what would lead further.
        left_out: what was not tried for want of a package.
        seconds: that it took.
        files: that were written.
        study: the folder of the study.
    """

    source: str
    output: str
    target: str
    bound: float
    judged: tuple[str, ...]
    samples: tuple[int, ...]
    before: Size
    after: Size
    chosen: int
    pipeline: str
    tried: int
    failed: int
    points: tuple[Point, ...]
    finals: tuple[Final, ...]
    met: bool
    stopped: tuple[str, ...]
    helps: tuple[str, ...]
    left_out: tuple[str, ...]
    seconds: float
    files: tuple[str, ...] = ()
    study: str = ""
    schema: int = field(default=SCHEMA)

    @property
    def result(self) -> Final | None:
        """How the result was timed."""
        return next((each for each in self.finals if each.number == self.chosen), None)

    @property
    def certain(self) -> bool:
        """Whether the whole interval of what was lost lies within the bound."""
        timed = self.result
        return timed is None or timed.reported is None or timed.reported.high <= self.bound

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        found = plain(self)
        assert isinstance(found, dict)
        return found

    def to_html(self, output: str | os.PathLike[str] | None = None, *, force: bool = False) -> str:
        """The curve and all figures as a page of its own.

        Args:
            output: where the page goes; None writes nothing.
            force: replace a file that exists.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        made = page(self)
        if output is not None:
            write_file(path_of("output", output), made.encode(), overwrite=force)
        return made
