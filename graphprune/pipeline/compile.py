"""The compile driver: load, normalise, run passes, measure, save; nothing is written before all is proved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.defaults import Defaults, held, make_constant, make_inputs
from graphprune.ir.fixed import Fixed, as_lists, fix_inputs, same
from graphprune.ir.load import Source, load
from graphprune.ir.normalise import normalise
from graphprune.ir.scales import fit_scales, said
from graphprune.ir.set_shapes import declare_sizes, set_shapes
from graphprune.lowering.lower import lowered
from graphprune.ops import record_of
from graphprune.pipeline import budgets, fingerprint, measure, origin, recipe, registry, reproducer, verdict
from graphprune.pipeline.agreement import OpenedOnce
from graphprune.pipeline.attempt import Attempt, Attempts, Given
from graphprune.pipeline.clock import Clock, Timings
from graphprune.pipeline.extras import require_torch
from graphprune.pipeline.faithful import require_faithful
from graphprune.pipeline.learning import Learning
from graphprune.pipeline.lowering import rules_of
from graphprune.pipeline.manager import Step
from graphprune.pipeline.option import path_of
from graphprune.pipeline.order import require_order
from graphprune.pipeline.output import copy, model_bytes, require_apart, require_free, write
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import Entry, PlanFile, made
from graphprune.pipeline.report import (
    AgreementReport,
    BudgetReport,
    FileBytes,
    LatencyReport,
    PassReport,
    Report,
    Size,
    WorkTime,
    installed_versions,
)
from graphprune.pipeline.samples import Given as Data
from graphprune.pipeline.samples import Samples, with_shapes
from graphprune.pipeline.settings import Files, Settings
from graphprune.pipeline.sparse import sparse_output
from graphprune.pipeline.unfused import is_suspect, require_unfused
from graphprune.run import seldom_collected
from graphprune.runtime.dimensions import require_fits
from graphprune.runtime.jobs import one_blas_thread
from graphprune.runtime.providers import providers
from graphprune.shown import Shown

if TYPE_CHECKING:
    import onnx

    from graphprune.axes.outputs import Judged
    from graphprune.prune.plan import Plan


@dataclass(frozen=True)
class Job:
    """What to compile: a model, the passes or the plan to replay, and where the result goes, if anywhere.

    `command` is the line or the call that asked for it, `config` are files that settings were taken from.
    With `lower` it is lowered even where there are no passes.
    """

    model: object
    passes: tuple[Pass, ...] = ()
    plan: PlanFile | None = None
    output: Path | None = None
    calibration: Data = None
    general: Data = None
    selection: Data = None
    inputs: Data = None
    also_read: tuple[Path, ...] = ()
    report: Path | None = None
    command: str = ""
    lower: bool = False
    config: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read besides the model, and so never written."""
        tensors = (path.with_suffix(".safetensors") for path in self.also_read)
        data = (
            item
            for item in (self.calibration, self.general, self.selection, self.inputs)
            if isinstance(item, Path)
        )
        return (*self.also_read, *tensors, *data)

    @property
    def source(self) -> str:
        """The model's path, or what it is."""
        return (
            os.fspath(self.model) if isinstance(self.model, str | os.PathLike) else type(self.model).__name__
        )

    @property
    def copies(self) -> bool:
        """Whether nothing is asked of any pass."""
        return not self.passes and self.plan is None and not self.lower

    @property
    def pipeline(self) -> str:
        """The passes as text."""
        return self.plan.pipeline if self.plan is not None else registry.text(self.passes)

    def recipe(self, settings: Settings, pipeline: str = "") -> recipe.Recipe:
        """What repeats this, as far as it was given in files; `pipeline` says what passes found."""
        names = {each.name: getattr(self, each.name) for each in fields(Files)}
        paths = {name: str(given) for name, given in names.items() if isinstance(given, Path)}
        return recipe.of(pipeline or self.pipeline, settings, Files(**paths))


@dataclass(frozen=True)
class Result(Shown):
    """A finished compile; wherever a model is taken, a Result is.

    Attributes:
        model: the compiled model.
        plans: what each deciding pass decided.
        plan_file: all decisions, to be replayed.
        report: what was done, measured and proved.
        copied: the file of which the result is a copy, byte for byte, if it is one.
        source: the model as given; its files are never written.
    """

    model: ir.Model
    plans: tuple[Plan, ...]
    plan_file: PlanFile
    report: Report
    copied: Path | None = None
    source: Source | None = None

    @property
    def timings(self) -> Timings:
        """CPU and wall seconds per phase."""
        return self.report.timings

    def proto(self) -> onnx.ModelProto:
        """The model as protobuf, for the onnx package; up to 2 GB."""
        return ir.to_proto(self.model)

    def save(self, output: str | os.PathLike[str], *, force: bool = False) -> tuple[str, ...]:
        """Write the model with its plan beside it, as `compile` does with an output; all files or none.

        Args:
            output: where the model goes, e.g. "small.onnx".
            force: replace files that exist.

        Returns:
            The files that were written.

        Raises:
            OutputError: it is an input, exists, or cannot be written.
        """
        path = path_of("output", output)
        assert self.source is not None
        require_free(path, self.source, (), force)
        if self.plan_file.entries or self.copied is None:
            return write(self.model, path, self.source, self.plan_file, overwrite=force)
        return copy(self.source, path, overwrite=force)

    def to_html(self, output: str | os.PathLike[str] | None = None, *, force: bool = False) -> str:
        """The report as a page of its own, as `--report FILE.html` writes it.

        Args:
            output: where the page goes; None writes nothing.
            force: replace a file that exists.

        Raises:
            OutputError: it exists, or cannot be written.
        """
        return self.report.to_html(output, force=force)


def run(job: Job, settings: Settings) -> Result:
    """Compile.

    Raises:
        GraphpruneError: bad input, a promise that could not be kept, or an output that cannot be written.
    """
    folder = None if settings.reproducer is None else Path(settings.reproducer)
    if folder is not None:
        reproducer.require_free(folder)
    try:
        with one_blas_thread(), seldom_collected():
            return _Compile(job, settings).run()
    except Exception as error:
        if folder is not None:
            reproducer.store(folder, job.source, job.recipe(replace(settings, reproducer=None)), error)
        raise


@dataclass(frozen=True)
class Counted:
    """Sizes of the model as given and after each pass, and what that says about the budgets."""

    sizes: list[Size]
    budgets: tuple[BudgetReport, ...] = ()
    lines: tuple[str, ...] = ()


class _Compile:
    """One compile in progress."""

    def __init__(self, job: Job, settings: Settings) -> None:
        self.job = job
        self.timed = settings
        self.settings = replace(settings, threads=1)  # more would change sums, and so the bytes of the result
        self.clock = Clock()
        self.notes: tuple[str, ...] = ()
        self.fixed: dict[str, Array] = {}
        self.held: Arrays = {}
        self.defaults = Defaults()
        self.fitted: tuple[str, ...] = ()

    def run(self) -> Result:
        given = self.job.calibration is not None or self.job.inputs is not None
        verdict.require_data(self.settings, given)
        providers(self.settings.providers)
        require_order(self.job.passes)
        for item in self.job.passes:
            require_torch(item.needs_torch)
        with self.clock.phase("load"):
            source = self._load()
        if self._copies:
            return self._copied(source)
        with self.clock.phase("normalise"):
            dense = source.model if source.path else source.model.clone()
            self.defaults = make_constant(dense)
            self.fitted = fit_scales(dense)
            if self.job.plan is not None:
                self.job.plan.require_inputs(dense)
            self.fixed = fix_inputs(dense, self._fix)
            self._set_shapes(dense)
            self.held = held(dense)
            self.settings = with_shapes(self.settings, self.job.inputs, dense, self.held)
            sizes = normalise(dense, record_of, self.settings.shape)
            if self.settings.set_shape:
                declare_sizes(dense, sizes)
        samples = self._samples(dense)
        samples.check()
        if is_suspect(dense):
            with self.clock.phase("prove"):
                require_unfused(dense, samples.feeds, self.settings)
        outputs = verdict.how_judged(dense, sizes, self.settings)
        passes = self.job.passes if self.job.plan is None else self.job.plan.replay(dense)
        with self.clock.phase("report"):
            before = measure.size(dense, self.settings.shape, sizes)
        whole = Given(source.path or source.model, self.fixed, dense, sizes, before, self._kept)
        learning = Learning(dense, outputs, self.settings, self.job.output)
        attempt = self._attempted(whole, samples, passes, learning)
        counted = self._judged(attempt)
        agreement = self._compared(source, OpenedOnce(dense, self.settings), attempt.steps, outputs, samples)
        return self._finish(source, dense, attempt, samples, agreement, counted)

    @property
    def _copies(self) -> bool:
        """Whether the result is the file as given."""
        return self.job.copies and not self._fix and not self.settings.set_shape

    def _set_shapes(self, dense: ir.Model) -> None:
        """What the file is to declare; it is what everything is counted and run at, too."""
        shapes = self.settings.set_shape
        if shapes:
            require_fits(dense, shapes, "--set-shape")
            set_shapes(dense, shapes)

    def _samples(self, dense: ir.Model) -> Samples:
        job, replay = self.job, self.job.plan is not None
        learner = next((item.name for item in job.passes if item.learns), "")
        return Samples(
            dense,
            job.inputs,
            job.calibration,
            self.settings,
            general=job.general,
            selected=job.selection,
            fixed=self.held,
            replay=replay,
            learner=learner,
        )

    def _compared(
        self,
        source: Source,
        dense: OpenedOnce,
        steps: tuple[Step, ...],
        outputs: tuple[Judged, ...],
        samples: Samples,
    ) -> AgreementReport | None:
        """The normal form against the file, and the result against the normal form.

        Raises:
            PromiseError: they do not agree, or not well enough.
        """
        self.settings.progress(0, 0, "prove the normal form")
        with self.clock.phase("prove"):
            original = source.path or source.model
            unchecked = require_faithful(original, dense, samples.feeds, self.settings, self.fixed)
        defaults = self.defaults.said(self.settings.keep_initializer_inputs)
        self.notes = tuple(filter(None, (*source.remarks, said(self.fitted), unchecked, defaults)))
        return self._agreement(dense, steps, outputs, samples)

    def _agreement(
        self, dense: OpenedOnce, steps: tuple[Step, ...], outputs: tuple[Judged, ...], samples: Samples
    ) -> AgreementReport | None:
        """How the result agrees with the dense model; nothing to say where no pass decided anything.

        Raises:
            PromiseError: not well enough.
        """
        if not any(step.plan for step in steps):
            return None
        self.settings.progress(0, 0, "compare with the dense model")
        with self.clock.phase("agree"):
            report, lines = verdict.verdict(dense, steps, outputs, samples, self.settings)
        self.notes = (*self.notes, *lines, *verdict.gate(report, self.settings))
        return report

    @property
    def _kept(self) -> frozenset[str]:
        """Weights that lowering may not touch."""
        return frozenset(self.defaults.weights if self.settings.keep_initializer_inputs else ())

    def _attempted(
        self, given: Given, samples: Samples, passes: Sequence[Pass], learning: Learning
    ) -> Attempt:
        """The passes, and the result lowered if it is to be."""
        how = rules_of(self.settings, self.job.plan) if passes or self.job.lower else None
        attempts = Attempts(given, samples, self.settings, self.timed, self.clock, how, learning)
        return attempts.run(passes, self.job.plan is not None)

    def _judged(self, attempt: Attempt) -> Counted:
        """The budgets; parameters and MACs count before lowering.

        Raises:
            PromiseError: one is missed.
        """
        short, outcome = self.settings.allow_short, attempt.lowering
        found, lines = budgets.judge(attempt.steps, attempt.sizes, short, attempt.taken)
        return Counted(attempt.sizes, found, (*lines, *(outcome.warnings if outcome else ())))

    @property
    def _fix(self) -> Fixed:
        """Inputs that become constants: as the plan says, or as the user does."""
        plan, given = self.job.plan, self.settings.fix
        if plan is None or not (plan.fixed or given):
            return given
        fixed = cast(Fixed, plan.fixed)
        if given and not same(given, fixed):
            hint = "leave --fix out: the plan has them"
            raise ArgumentError("the plan was made with other fixed inputs", hint)
        return fixed

    def _load(self) -> Source:
        self.settings.progress(0, 0, "load")
        source = load(self.job.model, self.settings.limits, lift=not self._copies)
        if self.job.output is not None:
            require_free(self.job.output, source, self.job.files, self.settings.force)
        if self.settings.statistics is not None:
            inputs = (source.path, *source.external_files, *self.job.files)
            require_apart(
                Path(self.settings.statistics), self.job.output, [p for p in inputs if p is not None]
            )
        return source

    def _finish(
        self,
        source: Source,
        dense: ir.Model,
        attempt: Attempt,
        samples: Samples,
        agreement: AgreementReport | None,
        counted: Counted,
    ) -> Result:
        steps, lowering, solved = attempt.steps, attempt.lowering, attempt.solved
        pruned = lowering.model if lowering is not None else steps[-1].model if steps else dense
        if solved is not None:
            self.timed = replace(self.timed, latency_factor=solved.factor)
        latency, times = self._measured(source, dense, pruned, samples, attempt)
        self.settings.progress(0, 0, "save")
        with self.clock.phase("save"):
            # Last, so that whatever goes wrong before leaves nothing.
            entries = tuple(Entry(str(step.item), step.plan, step.forced) for step in steps)
            how = None if lowering is None else lowering.how
            plan_file = made(dense, entries, self.job.pipeline, self.fixed, how, solved)
            if self.settings.keep_initializer_inputs:
                make_inputs(pruned, self.defaults.weights)
            origin.state(pruned, origin.of(source, plan_file) if self.settings.metadata else None)
            files, notes = self._written(pruned, source, plan_file, samples)
        report = self._report(counted, steps, latency, files, (*self.notes, *notes), agreement)
        report = replace(
            report,
            generated=samples.generated,
            file_bytes=self._file_bytes(source, files),
            data=samples.said,
            lowering=None if lowering is None else lowering.report,
            hashes={"structure": plan_file.structure, "weights": plan_file.weights} | report.hashes,
            times=times,
        )
        plans = tuple(step.plan for step in steps if step.plan is not None)
        return Result(pruned, plans, plan_file, report, source=source)

    def _written(
        self, pruned: ir.Model, source: Source, plan_file: PlanFile, samples: Samples
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files, and what there is to say about them."""
        if self.job.output is None:
            return (), ()
        overwrite = self.settings.force
        if not self.settings.sparse_initializers:
            return write(pruned, self.job.output, source, plan_file, overwrite=overwrite), ()
        sparse, note = sparse_output(pruned, samples.feeds, self.settings)
        files = write(pruned, self.job.output, source, plan_file, overwrite=overwrite, sparse=sparse)
        return files, (note,)

    def _file_bytes(self, source: Source, files: tuple[str, ...]) -> FileBytes | None:
        if self.job.output is None:
            return None
        return FileBytes(source.bytes if source.path else None, model_bytes(self.job.output, files))

    def _measured(
        self, source: Source, dense: ir.Model, pruned: ir.Model, samples: Samples, attempt: Attempt
    ) -> tuple[LatencyReport | None, tuple[WorkTime, ...]]:
        """Against the file as it was given, and beside it against the dense model lowered like the result."""
        lowering, known = attempt.lowering, attempt.latency
        if not ((self.settings.bench and known is None) or self.settings.time):
            return known, ()
        self.settings.progress(0, 0, "bench")
        with self.clock.phase("bench"):
            like = None
            if known is None and lowering is not None and lowering.report.uses and not self.job.lower:
                like, _ = lowered(dense, lowering.how)
            timed = measure.Timed(source.path or source.model, self.fixed, dense, like, pruned)
            latency, times, notes = measure.speed(timed, samples.feeds[0], self.timed, known)
        self.notes += notes
        return latency, times

    def _report(
        self,
        counted: Counted,
        steps: tuple[Step, ...],
        latency: LatencyReport | None,
        files: tuple[str, ...],
        notes: tuple[str, ...] = (),
        agreement: AgreementReport | None = None,
    ) -> Report:
        passes = (
            PassReport(
                str(step.item),
                step.groups,
                step.proof,
                size,
                step.warnings,
                step.zeros,
                step.notes,
                step.recovery,
            )
            for step, size in zip(steps, counted.sizes[1:], strict=True)
        )
        return Report(
            source=self.job.source,
            output=str(self.job.output or ""),
            pipeline=self.job.pipeline,
            before=counted.sizes[0],
            after=counted.sizes[-1],
            passes=tuple(passes),
            latency=latency,
            warnings=(*(line for step in steps for line in step.warnings), *counted.lines, *notes),
            versions=installed_versions(),
            seed=self.settings.seed,
            timings=self.clock.timings(),
            files=files,
            fixed=as_lists(self.fixed),
            agreement=agreement,
            budgets=counted.budgets,
            command=self.job.command,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            hashes=fingerprint.files(files),
            recipe=recipe.write(self.job.recipe(self.timed, registry.text(step.item for step in steps))),
            config=self.job.config,
        )

    def _copied(self, source: Source) -> Result:
        """An empty pipeline: the same bytes under another name."""
        files: tuple[str, ...] = ()
        size = measure.size_as_given(source.model, self.settings.shape)
        if self.job.output is not None:
            with self.clock.phase("save"):
                files = copy(source, self.job.output, overwrite=self.settings.force)
        report = self._report(Counted([size]), (), None, files)
        report = replace(report, file_bytes=self._file_bytes(source, files))
        same = None if source.had_external else source.path
        return Result(source.model, (), made(source.model, (), "", {}), report, same, source)
