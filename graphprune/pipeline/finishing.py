"""The end of a compile: what is left to measure, then the files, then the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.defaults import Defaults, make_inputs
from graphprune.ir.load import Source
from graphprune.lowering.lower import lowered
from graphprune.pipeline import measure, origin
from graphprune.pipeline.attempt import Attempt
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.job import Job
from graphprune.pipeline.output import model_bytes, write
from graphprune.pipeline.planfile import Entry, PlanFile, made
from graphprune.pipeline.report import AgreementReport, FileBytes, LatencyReport, WorkTime
from graphprune.pipeline.reporting import Counted, reported
from graphprune.pipeline.result import Result
from graphprune.pipeline.samples import Samples
from graphprune.pipeline.settings import Settings
from graphprune.pipeline.sparse import sparse_output


@dataclass(frozen=True)
class Finishing:
    """How a compile ends.

    Attributes:
        job: what was compiled.
        settings: of all but what is timed.
        timed: of what is timed.
        clock: of the whole compile.
        fixed: inputs that became constants.
        defaults: inputs that had a default.
    """

    job: Job
    settings: Settings
    timed: Settings
    clock: Clock
    fixed: dict[str, Array]
    defaults: Defaults

    def result(
        self,
        source: Source,
        dense: ir.Model,
        attempt: Attempt,
        samples: Samples,
        agreement: AgreementReport | None,
        counted: Counted,
        notes: tuple[str, ...],
    ) -> Result:
        """Measure, write and report.

        Args:
            source: the model as given.
            dense: its normal form.
            attempt: the passes, and the result lowered.
            samples: what it was made with.
            agreement: of the result with the dense model.
            counted: sizes and budgets.
            notes: what there is to say so far.

        Raises:
            OutputError: a file cannot be written; then there is none.
        """
        steps, lowering, solved = attempt.steps, attempt.lowering, attempt.solved
        pruned = lowering.model if lowering is not None else steps[-1].model if steps else dense
        timed = self.timed if solved is None else replace(self.timed, latency_factor=solved.factor)
        latency, times, timed_notes = self._measured(source, dense, pruned, samples, attempt, timed)
        self.settings.progress(0, 0, "save")
        with self.clock.phase("save"):
            # Last, so that whatever goes wrong before leaves nothing.
            entries = tuple(Entry(str(step.item), step.plan, step.forced) for step in steps)
            how = None if lowering is None else lowering.how
            plan_file = made(dense, entries, self.job.pipeline, self.fixed, how, solved)
            if self.settings.keep_initializer_inputs:
                make_inputs(pruned, self.defaults.weights)
            origin.state(pruned, origin.of(source, plan_file) if self.settings.metadata else None)
            files, file_notes = self._written(pruned, source, plan_file, samples)
        told = (*notes, *timed_notes, *file_notes)
        report = reported(self.job, timed, self.clock, counted, steps, files, told, self.fixed)
        report = replace(
            report,
            latency=latency,
            agreement=agreement,
            generated=samples.generated,
            file_bytes=file_bytes(self.job.output, source, files),
            data=samples.said,
            lowering=None if lowering is None else lowering.report,
            hashes={"structure": plan_file.structure, "weights": plan_file.weights} | report.hashes,
            times=times,
        )
        plans = tuple(step.plan for step in steps if step.plan is not None)
        return Result(pruned, plans, plan_file, report, source=source)

    def _written(
        self, pruned: ir.Model, source: Source, plan_file: PlanFile, samples: Samples
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """The files with their SHA-256, and what there is to say about them."""
        if self.job.output is None:
            return {}, ()
        overwrite = self.settings.force
        if not self.settings.sparse_initializers:
            return write(pruned, self.job.output, source, plan_file, overwrite=overwrite), ()
        sparse, note = sparse_output(pruned, samples.feeds, self.settings)
        files = write(pruned, self.job.output, source, plan_file, overwrite=overwrite, sparse=sparse)
        return files, (note,)

    def _measured(
        self,
        source: Source,
        dense: ir.Model,
        pruned: ir.Model,
        samples: Samples,
        attempt: Attempt,
        timed: Settings,
    ) -> tuple[LatencyReport | None, tuple[WorkTime, ...], tuple[str, ...]]:
        """Against the file as it was given, and beside it against the dense model lowered like the result."""
        lowering, known = attempt.lowering, attempt.latency
        if not ((self.settings.bench and known is None) or self.settings.time):
            return known, (), ()
        self.settings.progress(0, 0, "bench")
        with self.clock.phase("bench"):
            like = None
            if known is None and lowering is not None and lowering.report.uses and not self.job.lower:
                like, _ = lowered(dense, lowering.how)
            models = measure.Timed(source.path or source.model, self.fixed, dense, like, pruned)
            return measure.speed(models, samples.timed, timed, known)


def file_bytes(output: Path | None, source: Source, files: Iterable[str]) -> FileBytes | None:
    """Bytes of the files before and after, where any were written."""
    if output is None:
        return None
    return FileBytes(source.bytes if source.path else None, model_bytes(output, files))
