"""Does a smaller model keep to what was asked of it? The result of `graphprune check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from graphprune.errors import ArgumentError
from graphprune.ir.names import listed, quote
from graphprune.pipeline import benchmark, measure, verdict
from graphprune.pipeline.alike import require_alike, typed
from graphprune.pipeline.fingerprint import structure, weights
from graphprune.pipeline.opened import Ready, load_to_run, open_model
from graphprune.pipeline.outcome import told
from graphprune.pipeline.report import AgreementReport, Interval, OutputDrop
from graphprune.pipeline.runner import ran, runner
from graphprune.pipeline.samples import Given, Narrow, Samples
from graphprune.pipeline.settings import Checking
from graphprune.pipeline.thresholds import (
    OF,
    THRESHOLDS,
    Baseline,
    Figure,
    Judgement,
    Source,
    against,
    asked,
    judge,
)
from graphprune.shown import Shown

if TYPE_CHECKING:
    from graphprune.pipeline.metric import Metric


@dataclass(frozen=True)
class Check(Shown):
    """A smaller model against what was asked: `ok` if nothing fails, nor is inconclusive if strict.

    `figures` are all that were measured on the way, `judged` those that something was asked of. `notes` are
    lines that somebody should act on. `dense` and `data` are hashes of the dense model and of the samples, so
    that a later check knows whether it may be compared with this one. `providers` are the execution providers
    that ran at least one node.
    """

    reference: str
    candidate: str
    ok: bool
    strict: bool
    samples: int
    judged: tuple[Judgement, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    dense: str
    data: str
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What to check.

    Attributes:
        models: the dense one and the smaller one, as they were given.
        names: of both.
        inputs: samples.
        metric: of the user's own.
        baseline: an earlier check that this one may not fall behind.
    """

    models: tuple[object, object]
    names: tuple[str, str]
    inputs: Given = None
    metric: Metric | None = None
    baseline: Baseline | None = None


def check(job: Job, settings: Checking) -> Check:
    """Measure what thresholds are of, and judge it.

    Raises:
        ArgumentError: nothing was asked, or something that cannot be measured with what was given.
        GraphpruneError: a model does not load or run, or the samples do not fit.
    """
    wanted = _wanted(job, settings)
    measuring = _Measuring(job, settings)
    measuring.require_comparable()
    figures = tuple(figure for source in wanted for figure in measuring.of(source))
    found = {each.name: each for each in figures}
    judged = tuple(judge(each, found[each.figure], settings) for each in asked(settings))
    stored = job.baseline.figures if job.baseline is not None else ()
    judged += tuple(against(each, found[each.name]) for each in stored)
    wrong = {"fail", "inconclusive"} if settings.strict else {"fail"}
    return Check(
        *job.names,
        ok=all(each.verdict not in wrong for each in judged),
        strict=settings.strict,
        samples=len(measuring.samples.judging()) if job.inputs is not None else 0,
        judged=judged,
        figures=figures,
        notes=measuring.notes,
        dense=measuring.hash,
        data=measuring.data,
        providers=tuple(measuring.ran),
    )


def _wanted(job: Job, settings: Checking) -> list[Source]:
    """What has to be measured with, cheap things first.

    Raises:
        ArgumentError: nothing was asked, or samples or a metric are missing.
    """
    stored = job.baseline.figures if job.baseline is not None else ()
    names = [each.flag for each in asked(settings)]
    if not (names or stored):
        flags = ", ".join(each.flag for each in THRESHOLDS)
        raise ArgumentError(
            "nothing was asked of the model", f"give a threshold: {flags}; or --baseline FILE"
        )
    needed = {each.source: each.flag for each in asked(settings)}
    for each in stored:
        needed.setdefault(OF[each.name].source, "--baseline")
    if "samples" in needed and job.inputs is None:
        raise ArgumentError(f"{needed['samples']} needs samples to measure on", "give some: --inputs FILE")
    if "metric" in needed and job.metric is None:
        raise ArgumentError(f"{needed['metric']} needs a metric", "give one: --metric module:function")
    also = {"files"} | ({"metric"} if job.metric is not None else set())
    order: tuple[Source, ...] = ("files", "samples", "metric", "clock")
    return [source for source in order if source in needed or source in also]


@dataclass(frozen=True)
class _Measuring:
    """Both models, loaded once for all that is measured."""

    job: Job
    settings: Checking
    ran: dict[str, None] = field(default_factory=dict)

    def of(self, source: Source) -> tuple[Figure, ...]:
        """The figures that are measured so."""
        measure: Mapping[Source, Callable[[], tuple[Figure, ...]]] = {
            "files": self._files,
            "samples": self._samples,
            "metric": self._metric,
            "clock": self._clock,
        }
        return measure[source]()

    @cached_property
    def _ready(self) -> tuple[Ready, Ready]:
        self.settings.progress(0, 0, "load")
        one, two = (load_to_run(model, self.settings) for model in self.job.models)
        require_alike([one.model, two.model], self.job.names)
        return one, two

    @cached_property
    def samples(self) -> Samples:
        """What was given, for the dense model."""
        dense = self._ready[0]
        return Samples(dense.model, self.job.inputs, None, self.settings, fixed=dense.constants)

    @cached_property
    def hash(self) -> str:
        """Of the dense model."""
        model = self._ready[0].model
        return f"{structure(model)[:32]}{weights(model)[:32]}"

    @cached_property
    def data(self) -> str:
        """A hash of the samples; empty where there are none."""
        from graphprune.runtime.holding import digest

        return digest(self.samples.judging().sets) if self.job.inputs is not None else ""

    def require_comparable(self) -> None:
        """Refuse a baseline of another model or of other samples.

        Raises:
            ArgumentError: saying which.
        """
        baseline, hint = self.job.baseline, "store a new one: graphprune check ... --report result.json"
        if baseline is None:
            return
        if baseline.dense != self.hash:
            raise ArgumentError("the baseline is of another dense model", hint)
        if any(OF[each.name].source == "samples" for each in baseline.figures) and baseline.data != self.data:
            raise ArgumentError("the baseline was measured on other samples", hint)

    def _files(self) -> tuple[Figure, ...]:
        dense, small = (_bytes(each, self.settings) for each in self._ready)
        return (Figure("bytes", small, dense=dense),)

    def _samples(self) -> tuple[Figure, ...]:
        self.ran.update(dict.fromkeys(self.agreement.providers))
        return _figures(self.agreement)

    @cached_property
    def agreement(self) -> AgreementReport:
        """How both models agree on the samples.

        Raises:
            ArgumentError: the smaller model lacks an output.
        """
        self.settings.progress(0, 0, "run both models")
        dense, small = (each.model for each in self._ready)
        opened = open_model(self.job.models[0], self.settings, self.job.inputs)
        outputs = verdict.how_judged(opened.model, opened.sizes, self.settings)
        own = {value.name for value in small.graph.outputs}
        missing = [each.name for each in outputs if each.name not in own]
        if missing:
            raise ArgumentError(f"the smaller model has no output {listed(missing)}", "name outputs alike")
        same = {value.name: value.dtype for value in dense.graph.inputs}
        other = any(value.dtype != same.get(value.name, value.dtype) for value in small.graph.inputs)
        narrow: tuple[Narrow, ...] = (partial(typed, small),) if other else ()
        judging = self.samples.judging()
        runs = runner(dense, self.settings), runner(small, self.settings, narrow=narrow)
        report = told(verdict.drops(*runs, outputs, judging), judging, ran(runs))
        return verdict.beside(report, dense, small, outputs, judging, self.settings, narrow)

    @property
    def notes(self) -> tuple[str, ...]:
        """Outputs that were not judged or are as good as dead; products of bytes that this CPU saturates."""
        if "agreement" not in self.__dict__:
            return ()
        silent = [each for each in self.agreement.outputs if each.drop is None]
        unjudged = (f"output {quote(each.name)} was not judged: {each.note}" for each in silent)
        lines = (*verdict.dead(self.agreement), *verdict.unpaired(self.agreement))
        return (*unjudged, *lines, *filter(None, [self.agreement.saturation]))

    def _metric(self) -> tuple[Figure, ...]:
        assert self.job.metric is not None
        self.settings.progress(0, 0, "metric")
        return self.job.metric.figures(*self.job.models)

    def _clock(self) -> tuple[Figure, ...]:
        found = benchmark.bench(
            self.job.models, self.job.names, self.job.inputs, self.settings, loading=False
        )
        row = found.models[1]
        for each in found.models:
            self.ran.update(dict.fromkeys(each.providers))
        return (Figure("speedup", row.speedup, row.speedup_low, row.speedup_high, number=found.rounds),)


def _bytes(ready: Ready, settings: Checking) -> int:
    """Of the file; of the tensors where there is none."""
    if ready.file_bytes is not None:
        return ready.file_bytes
    return measure.size_as_given(ready.model, settings.shape).bytes


def _figures(report: AgreementReport) -> tuple[Figure, ...]:
    """The worst output of each figure."""
    tops = [(each.top1, each.name) for each in report.outputs if each.top1 is not None]
    top1, where = min(tops, key=lambda pair: pair[0].value, default=(None, "no output holds classes"))
    drop = _interval("drop", report.drop, report.output or "the samples say nothing about any output", report)
    return (
        replace(drop, exact=report.exact.value if report.exact is not None else None),
        _interval("top1", top1, where, report),
        _worst_class(report),
        _cosine(report.outputs),
    )


def _interval(name: str, found: Interval | None, where: str, report: AgreementReport) -> Figure:
    if found is None:
        return Figure(name, None, where=where)
    return Figure(name, found.value, found.low, found.high, where=where, number=report.samples)


def _worst_class(report: AgreementReport) -> Figure:
    found = [(each.worst_class_interval, each) for each in report.outputs if each.worst_class_interval]
    if not found:
        return Figure("worst_class", None, where="no class has ten samples")
    share, output = min(found, key=lambda pair: pair[0].value)
    return _interval("worst_class", share, f"class {output.worst_class} of {output.name}", report)


def _cosine(outputs: Sequence[OutputDrop]) -> Figure:
    found = [(each.cosine, each.name) for each in outputs if each.cosine is not None]
    value, where = min(found, default=(None, "no output holds numbers"))
    return Figure("cosine", value, where=where)
