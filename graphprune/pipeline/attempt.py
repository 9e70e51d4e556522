"""Passes and lowering as one attempt, and a second one where a latency turned out other than foreseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Arrays
from graphprune.lowering.lower import Rules, lowered
from graphprune.pipeline import budgets, measure
from graphprune.pipeline.amounts import budgets as asked_of
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.deviceprofiles import device_profile
from graphprune.pipeline.foresight import Foresight, Runs, taken
from graphprune.pipeline.learning import Learning
from graphprune.pipeline.lowering import Lowering, Outcome, lower_result
from graphprune.pipeline.manager import Manager, Step
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import Solved
from graphprune.pipeline.report import LatencyReport, Size
from graphprune.pipeline.samples import Samples
from graphprune.pipeline.settings import Settings
from graphprune.run import CPU_ALONE

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.ir.shapes import Sizes

OFF = 0.05
"""Share by which a latency may be another than foreseen before the budget is solved again."""


@dataclass(frozen=True)
class Given:
    """What is compiled: the file or model as given, and its normal form.

    Attributes:
        source: as given; None where it does not run.
        fixed: inputs of it that became constants.
        dense: its normal form.
        sizes: of that.
        size: of that.
        kept: weights that no rule of lowering may touch.
    """

    source: Path | ir.Model | None
    fixed: Arrays
    dense: ir.Model
    sizes: Sizes
    size: Size
    kept: frozenset[str]


@dataclass(frozen=True)
class Attempt:
    """What passes and lowering came to.

    Attributes:
        steps: the passes.
        sizes: of the dense model and after each pass; the bytes of the last are as written.
        lowering: None where the result is not lowered.
        latency: of the result against the model as given, where a budget asks for it.
        foresight: what latency budgets were solved by.
    """

    steps: tuple[Step, ...]
    sizes: list[Size]
    lowering: Outcome | None
    latency: LatencyReport | None = None
    foresight: Foresight | None = None

    @property
    def solved(self) -> Solved | None:
        """What latency budgets were solved by, for the plan."""
        found = self.foresight
        return None if found is None else Solved(found.profile.hash, found.factor)

    @property
    def taken(self) -> budgets.Taken:
        """Shares of what the model as given takes: as measured, and as the last latency budget foresees."""
        told = [step.foreseen for step in self.steps if step.foreseen is not None]
        whole = None if self.foresight is None else self.foresight.whole
        if self.foresight is not None and self.latency is not None and not self.foresight.shares:
            whole = round(1e6 * self.latency.before_ms)
        foreseen = told[-1] / whole if told and whole else None
        return budgets.Taken(self.latency, foreseen, whole)

    @property
    def share(self) -> float:
        """What the result takes of what the model as given takes, as measured; 1 where it was not."""
        return 1.0 if self.latency is None else 1 / self.latency.speedup

    @property
    def off(self) -> float:
        """Times what was foreseen that the result takes; 1 where nothing was, or it cannot be measured."""
        foreseen = self.taken.foreseen
        return 1.0 if self.latency is None or not foreseen else self.share / foreseen

    def corrected(self, asked: float) -> Foresight:
        """What to solve by once the result was measured, to come to a share or to nanoseconds."""
        taken = self.taken
        assert self.foresight is not None and taken.foreseen and taken.whole
        share = budgets.share_of(asked, taken)
        return self.foresight.corrected(share, taken.foreseen, self.share, taken.whole)


@dataclass
class Attempts:
    """Runs a pipeline and lowers what it leaves, as often as latency budgets need.

    Args:
        given: what is compiled.
        samples: inputs for proofs and for passes that need data.
        settings: how to run.
        timed: the same with the threads that are timed.
        clock: charged with every phase.
        how: rules of lowering; None where nothing is lowered.
        learning: makes what passes that learn may learn from.
        collector: keeps what passes measure.
    """

    given: Given
    samples: Samples
    settings: Settings
    timed: Settings
    clock: Clock
    how: Rules | None
    learning: Learning
    collector: Collector

    def run(self, passes: Sequence[Pass], replay: bool) -> Attempt:
        """The first attempt, or the second where the first is not what was foreseen, if that is not too late.

        Raises:
            PromiseError: a pass could not do what was asked, or a proof failed.
        """
        timed = [at for at, item in enumerate(passes) if "latency" in asked_of(budgets.item_of(item))]
        if not timed:
            return self._attempt(passes, None)
        foresight = None if replay else self._foresight([passes[at] for at in timed])
        first = self._timed(self._attempt(passes, foresight))
        off = first.off
        if foresight is None or abs(off - 1) <= OFF or self.settings.latency_factor is not None:
            return first
        self.settings.progress(0, 0, f"solve again: {off:.2f} times what was foreseen")
        asked = min(asked_of(budgets.item_of(passes[at]))["latency"] for at in timed)
        better = first.corrected(asked)
        again = self._timed(self._attempt(passes, better, first.steps[: timed[0]]))
        late = not budgets.on_time(asked, again.taken)
        return first if late and first.share < again.share else again

    def _attempt(
        self,
        passes: Sequence[Pass],
        foresight: Foresight | None,
        done: Sequence[Step] = (),
    ) -> Attempt:
        given, size = self.given, self.given.size
        manager = Manager(
            self.settings,
            self.clock,
            self.samples,
            given=size,
            learn=self.learning.reference,
            foresight=foresight,
            collector=self.collector,
        )
        steps = manager.run(given.dense, given.sizes, passes, done)
        with self.clock.phase("report"):
            how = partial(measure.size, shapes=self.samples.counted, given=self.settings.shape)
            counted = [size, *(how(step.model) for step in steps)]
        if self.how is None:
            return Attempt(steps, counted, None, foresight=foresight)
        self.settings.progress(0, 0, "lower")
        lowering = Lowering(self.samples, set(given.kept), self.settings, self.clock)
        outcome = lower_result(given.dense, steps, counted, lowering, self.how)
        written = [*counted[:-1], replace(counted[-1], bytes=outcome.size.bytes)]
        if steps:
            steps = (*steps[:-1], replace(steps[-1], model=outcome.model))
        return Attempt(steps, written, outcome, foresight=foresight)

    def _foresight(self, passes: Sequence[Pass]) -> Foresight:
        """What to solve by: a profile, and how far what the lowered dense model takes is from it.

        Raises:
            ArgumentError: the budgets cannot be solved together, or not on this machine.
        """
        shares = self._require(passes)
        self.settings.progress(0, 0, "latency of the dense model")
        threads, feeds = self.timed.threads, self.samples.timed
        runs = Runs(self.how, self.given.kept, feeds, self.settings, threads)
        with self.clock.phase("profile"):
            model = runs.lowered(self.given.dense)
            found = runs.pieces(model, lower=False)
            profile, here = device_profile(found, threads, self.settings)
        foresight = Foresight(runs, profile, here, taken(found, profile), shares)
        if self.settings.latency_factor is not None:
            return replace(foresight, factor=self.settings.latency_factor)
        if not here or (shares and model is self.given.dense):
            return foresight
        with self.clock.phase("bench"):
            timed = measure.Timed(self.given.source, self.given.fixed, self.given.dense, None, model)
            found_latency = measure.latency(timed, feeds, self.timed)
        nanoseconds = 1e6 * found_latency.after_ms
        return replace(
            foresight, factor=1 / found_latency.speedup if shares else nanoseconds / foresight.whole
        )

    def _require(self, passes: Sequence[Pass]) -> bool:
        """Whether latencies are shares of the model as given."""
        if self.timed.providers != CPU_ALONE:
            raise ArgumentError("latency= is foreseen for the CPU provider alone", "leave --providers out")
        shares = {asked_of(item)["latency"] <= 1 for item in passes}
        if len(shares) > 1:
            raise ArgumentError(
                "latency is a share in one pass and a time in another", "give it the same way"
            )
        return shares.pop()

    def _timed(self, attempt: Attempt) -> Attempt:
        """With the latency of its result against the model as given, where that can and is to be measured."""
        foreseen = self.settings.latency_factor is not None and not self.settings.bench
        if attempt.foresight is not None and (foreseen or not attempt.foresight.here):
            return attempt
        self.settings.progress(0, 0, "bench")
        with self.clock.phase("bench"):
            like = None
            if attempt.lowering is not None and attempt.lowering.report.uses:
                like, _ = lowered(self.given.dense, attempt.lowering.how, self.given.kept)
            given, result = self.given, attempt.steps[-1].model
            timed = measure.Timed(given.source, given.fixed, given.dense, like, result)
            return replace(attempt, latency=measure.latency(timed, self.samples.timed, self.timed))
