"""The compile driver: load, normalise, run passes, measure, save; nothing is written before all is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from graphprune.errors import ArgumentError
from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.defaults import Defaults, held, make_constant
from graphprune.ir.fixed import Fixed, fix_inputs, same
from graphprune.ir.load import Source, load
from graphprune.ir.normalise import normalise
from graphprune.ir.scales import fit_scales, said
from graphprune.ir.set_shapes import declare_sizes, set_shapes
from graphprune.ops import record_of
from graphprune.pipeline import budgets, measure, reproducer, verdict
from graphprune.pipeline.agreement import OpenedOnce
from graphprune.pipeline.attempt import Attempt, Attempts, Given
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.extras import require_torch
from graphprune.pipeline.faithful import require_faithful
from graphprune.pipeline.finishing import Finishing, file_bytes
from graphprune.pipeline.job import Job
from graphprune.pipeline.learning import Learning
from graphprune.pipeline.lowering import rules_of
from graphprune.pipeline.manager import Step
from graphprune.pipeline.order import require_order
from graphprune.pipeline.output import copy, require_apart, require_free
from graphprune.pipeline.passes import Pass
from graphprune.pipeline.planfile import made
from graphprune.pipeline.report import AgreementReport
from graphprune.pipeline.reporting import Counted, reported
from graphprune.pipeline.result import Result
from graphprune.pipeline.samples import Samples, with_shapes
from graphprune.pipeline.scorebook import Scorebook
from graphprune.pipeline.settings import Settings
from graphprune.pipeline.unfused import is_suspect, require_unfused
from graphprune.run import seldom_collected
from graphprune.runtime.dimensions import require_fits
from graphprune.runtime.jobs import one_blas_thread
from graphprune.runtime.providers import providers

if TYPE_CHECKING:
    from graphprune.axes.outputs import Judged


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
            before = measure.size(dense, samples.counted, sizes, self.settings.shape)
        whole = Given(source.path or source.model, self.fixed, dense, sizes, before, self._kept)
        learning = Learning(dense, outputs, self.settings, self.job.output)
        attempt = self._attempted(whole, samples, passes, learning)
        counted = self._judged(attempt)
        agreement = self._compared(source, OpenedOnce(dense, self.settings), attempt.steps, outputs, samples)
        finishing = Finishing(self.job, self.settings, self.timed, self.clock, self.fixed, self.defaults)
        return finishing.result(source, dense, attempt, samples, agreement, counted, self.notes)

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
        """How the result agrees with the dense model; nothing to say where no pass decided anything,
        or nobody asked.

        Raises:
            PromiseError: not well enough.
        """
        if not self.job.compared or not any(step.plan for step in steps):
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
        kept, scores = self.settings.statistics, self.job.scores
        collector = Collector(
            None if kept is None else Path(kept), None if scores is None else Scorebook(scores)
        )
        attempts = Attempts(given, samples, self.settings, self.timed, self.clock, how, learning, collector)
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

    def _copied(self, source: Source) -> Result:
        """An empty pipeline: the same bytes under another name."""
        files: dict[str, str] = {}
        size = measure.size_as_given(source.model, self.settings.shape)
        if self.job.output is not None:
            with self.clock.phase("save"):
                files = copy(source, self.job.output, overwrite=self.settings.force)
        report = reported(self.job, self.timed, self.clock, Counted([size]), files=files)
        report = replace(report, file_bytes=file_bytes(self.job.output, source, files))
        same = None if source.had_external else source.path
        return Result(source.model, (), made(source.model, (), "", {}), report, same, source)
