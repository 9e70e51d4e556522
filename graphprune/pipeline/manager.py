"""The pass manager: runs passes one after another, and checks and proves what each of them did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphprune.errors import GraphpruneError, PromiseError
from graphprune.ir.check import check
from graphprune.ir.given import complete
from graphprune.ir.names import escape, quote
from graphprune.ir.normalise import normalise
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import record_of
from graphprune.ops.door import foreign
from graphprune.pipeline import summary
from graphprune.pipeline.agreement import agree
from graphprune.pipeline.amounts import COUNTED
from graphprune.pipeline.bisect import smallest_failing
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.collecting import Collector
from graphprune.pipeline.deviceprofiles import remarks, step_of
from graphprune.pipeline.passes import Context, Pass, Subject, decides
from graphprune.pipeline.registry import blamed, fault_hint, require_model, settled
from graphprune.pipeline.report import GroupReport, ProofReport, RecoveryReport, Size, ZerosReport
from graphprune.pipeline.samples import Narrow, Samples, same
from graphprune.pipeline.settings import Settings
from graphprune.pipeline.unfused import require_unfused, taken_apart
from graphprune.pipeline.whole import LastCut

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.pipeline.foresight import Foresight
    from graphprune.pipeline.ratios import Ratio
    from graphprune.pipeline.reference import Reference
    from graphprune.prune.plan import Plan

BUG = "this is a bug in graphprune: --reproducer DIR stores what is needed to report it"


@dataclass(frozen=True)
class Step:
    """One pass done: the model after it, for a deciding pass what it decided, and how its inputs narrowed."""

    item: Pass
    model: ir.Model
    proof: ProofReport
    groups: tuple[GroupReport, ...] = ()
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    zeros: ZerosReport | None = None
    forced: str = ""
    narrow: Narrow = same
    ratio: Ratio | None = None
    recovery: RecoveryReport | None = None
    foreseen: int | None = None


class ProofError(PromiseError):
    """A rewrite does not do what its plan says; `groups` is the smallest part of the plan that fails."""

    def __init__(
        self, message: str, hint: str, groups: tuple[str, ...] = (), plan: Plan | None = None
    ) -> None:
        super().__init__(message, hint)
        self.groups = groups
        self.plan = plan


@dataclass
class Manager:
    """Runs a pipeline over a normalised model.

    Args:
        settings: how to run.
        clock: charged with every phase.
        samples: inputs for proofs and for passes that need data.
        given: size of the model as given, of which budgets are shares.
        learn: makes what passes that learn may learn from.
        collector: keeps what passes measure.
        foresight: what latency budgets are solved by.
    """

    settings: Settings
    clock: Clock
    samples: Samples
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given: Size | None = None
    forced: list[str] = field(default_factory=list)
    collector: Collector = field(default_factory=Collector)
    learn: Callable[[Samples], Reference] | None = None
    settled: list[Pass] = field(default_factory=list)
    recoveries: list[RecoveryReport] = field(default_factory=list)
    foresight: Foresight | None = None
    foreseen: list[int] = field(default_factory=list)
    cut: LastCut | None = None

    def run(
        self, model: ir.Model, sizes: Sizes, passes: Sequence[Pass], done: Sequence[Step] = ()
    ) -> tuple[Step, ...]:
        """Every pass in turn, each on the model that the one before it left.

        Args:
            model: in normal form.
            sizes: of it.
            passes: all of them.
            done: what the first of them did already.

        Raises:
            PromiseError: a pass could not do what was asked, or a proof failed.
        """
        steps: list[Step] = []
        for at, item in enumerate(passes):
            if at < len(done):
                step = done[at]
            else:
                self.settings.progress(at, len(passes), f"pass {item}")
                step = self._step(item, model, sizes, at + 1 == len(passes))
                if not at:
                    step = dataclasses.replace(step, warnings=(*remarks(self.settings), *step.warnings))
            steps.append(step)
            self.samples = self.samples.without(summary.lost_inputs(model, step.model), step.narrow)
            model = step.model
            if at + 1 < len(passes):
                with self.clock.phase("normalise"):
                    sizes = complete(infer(model, record_of), model, record_of, self.settings.shape)
        return tuple(steps)

    def _step(self, item: Pass, model: ir.Model, sizes: Sizes, last: bool) -> Step:
        self.warnings, self.notes, self.forced, self.foreseen = [], [], [], []
        self.settled, self.recoveries = [], []
        run = self._decided if decides(item) else self._transformed
        return dataclasses.replace(
            run(item, model, sizes, last),
            warnings=tuple(self.warnings),
            notes=tuple(self.notes),
            forced="; ".join(self.forced),
            item=self.settled[-1] if self.settled else item,
            recovery=self.recoveries[-1] if self.recoveries else None,
            foreseen=self.foreseen[-1] if self.foreseen else None,
        )

    def _context(self, item: Pass) -> Context:
        foresight = self.foresight
        if foresight is not None:
            runs = dataclasses.replace(foresight.runs, feeds=self.samples.timed)
            foresight = dataclasses.replace(foresight, runs=runs)
        return Context(
            calibration=self.samples.batches,
            general=self.samples.general_batches,
            shapes=self.settings.shape,
            counted=self.samples.counted,
            run=self.settings.run,
            allow_short=self.settings.allow_short,
            warn=self.warnings.append,
            note=self.notes.append,
            collector=self.collector,
            given=_known(self.given) | ({} if foresight is None else {"latency": foresight.whole}),
            forced=self.forced.append,
            reference=self.learn(self.samples) if self.learn and item.learns else None,
            settle=self.settled.append,
            recovered=self.recoveries.append,
            foresight=foresight,
            foretell=self.foreseen.append,
            step=step_of(self.settings),
        )

    def _decided(self, item: Pass, model: ir.Model, sizes: Sizes, last: bool) -> Step:
        from graphprune.prune.rewrite import rewrite

        with blamed(item):
            options = item.options()
        if options.dequantize:
            model, sizes = self._dequantised(item, model)
        subject = Subject(model, options, sizes, self.clock.phase)
        with self.clock.phase("decide"):
            context = self._context(item)
            with taken_apart(model, self.samples, self.settings), blamed(item):
                decided = item.decide(subject, context)
            plan = settled(item, decided, subject.analysis)
            with blamed(item):
                ratio = item.ratio_taken(subject, plan, context)
        subject = self._biased(item, subject, plan)
        with self.clock.phase("rewrite"):
            pruned = rewrite(subject.model, subject.analysis, plan)
        self.warnings.extend(summary.resized(model, pruned))
        self._check(pruned, item, last)
        proof = self._prove(item, subject, plan, pruned)
        self.cut = LastCut(subject, plan, self.samples) if _cuts(plan) else self.cut and self.cut.then(plan)
        if item.learns and plan.replaced and not _cuts(plan):
            proof = self._prove_whole(item, pruned, proof)
        groups = summary.groups(subject.analysis, plan, item)
        narrow = _narrowed(subject, plan, pruned)
        zeros = self._zeros(pruned, plan)
        return Step(item, pruned, proof, groups, plan, zeros=zeros, narrow=narrow, ratio=ratio)

    def _dequantised(self, item: Pass, model: ir.Model) -> tuple[ir.Model, Sizes]:
        """The model with float weights, shown to compute the same."""
        from graphprune.ir.dequantise import dequantise

        floats = model.clone()
        with self.clock.phase("rewrite"):
            count = dequantise(floats)
            sizes = normalise(floats, record_of, self.settings.shape)
        if not count:
            hint = "leave dequantize=true out; weights of integer operators cannot be made floats one by one"
            raise PromiseError(f"{item}: no weight is behind a DequantizeLinear", hint)
        with self.clock.phase("prove"):
            # Unoptimised, both multiply floats; fused into bytes, the first would round otherwise.
            agreed = agree(model, floats, self.samples.feeds, self.settings, optimise=False)
        if not agreed.ok:
            raise ProofError(f"weights of {item} as floats change what the model computes", BUG)
        self.notes.append(f"{count} quantised weights and biases are floats now; the file may grow")
        return floats, sizes

    def _zeros(self, pruned: ir.Model, plan: Plan) -> ZerosReport | None:
        if not plan.masks:
            return None
        from graphprune.pipeline.zeros import count

        with self.clock.phase("report"):
            return count(pruned, tuple(plan.masks))

    def _biased(self, item: Pass, subject: Subject, plan: Plan) -> Subject:
        """The subject with the biases of the plan: what is rewritten, and what M_R is built on."""
        if not plan.biases:
            return subject
        from graphprune.proof.biases import undeclared
        from graphprune.prune.bias import with_biases

        with self.clock.phase("rewrite"):
            model = with_biases(subject.model, plan.biases)
            sizes = complete(infer(model, record_of), model, record_of, self.settings.shape)
        with self.clock.phase("prove"):
            wrong = undeclared(subject.model, model, plan.biases)
        if wrong:
            details = "".join(f"\n  {escape(line)}" for line in wrong)
            raise ProofError(f"the biases of {item} are not what its plan says{details}", BUG, (), plan)
        return Subject(model, subject.options, sizes, subject.phase)

    def _prove(self, item: Pass, subject: Subject, plan: Plan, pruned: ir.Model) -> ProofReport:
        self.settings.progress(0, 0, f"prove {item}")
        proof = self._proof(subject, plan, pruned)
        if proof.ok:
            return proof
        require_unfused(subject.model, self.samples.feeds, self.settings)
        self._require_provable(subject.model)
        cut = [group for group, kept in plan.cuts.items() if len(kept) < plan.widths[group]]
        self.settings.progress(0, 0, f"bisect {item}")
        guilty = smallest_failing(cut, lambda groups: self._breaks(subject, plan, groups)) if cut else ()
        names = ", ".join(escape(group) for group in guilty) or "no single group"
        how = f"error {proof.error:.3g}, bound {proof.tolerance:.0e}"
        message = f"the proof of {item} failed ({how}); smallest cut that fails: {names}"
        hint = suspects(subject.model) or BUG
        details = "".join(f"\n  {escape(line)}" for line in proof.details)
        raise ProofError(message + details, hint, tuple(guilty), plan)

    def _require_provable(self, model: ir.Model) -> None:
        """Blame the model where its own outputs say nothing: NaN equals nothing, not even itself."""
        with self.clock.phase("prove"):
            own = agree(model, model, self.samples.feeds, self.settings, exact=True)
        if own.ok and own.proves:
            return
        notes = "".join(f"\n  output {quote(o.name)}: {o.note}" for o in own.outputs if o.note)
        hint = "give inputs on which it computes something (--inputs), or repair its weights"
        raise PromiseError(
            f"nothing can be proved: the model itself computes nothing to compare{notes}", hint
        )

    def _prove_whole(self, item: Pass, pruned: ir.Model, own: ProofReport) -> ProofReport:
        """What was learned, in dense coordinates: the last cut with these weights against its M_R.

        Raises:
            ProofError: they do not agree.
        """
        if self.cut is None:
            return own
        plan = self.cut.with_weights_of(pruned)
        if plan is None:
            note = "not proved in dense coordinates: a trained tensor is no part of one dense tensor"
            return dataclasses.replace(own, details=(*own.details, note))
        self.settings.progress(0, 0, f"prove {item} in dense coordinates")
        whole = self._proof(self.cut.subject, plan, pruned, self.cut.samples)
        if not whole.ok:
            details = "".join(f"\n  {escape(line)}" for line in whole.details)
            message = f"the proof of {item} in dense coordinates failed: error {whole.error:.3g}{details}"
            raise ProofError(message, suspects(self.cut.subject.model) or BUG, (), plan)
        return dataclasses.replace(whole, tensors=own.tensors + whole.tensors, runs=own.runs + whole.runs)

    def _proof(
        self, subject: Subject, plan: Plan, pruned: ir.Model, samples: Samples | None = None
    ) -> ProofReport:
        from graphprune.proof import prove

        given, feeds = self.settings, (samples or self.samples).feeds
        with self.clock.phase("prove"):
            proof = prove(
                subject.model,
                subject.analysis,
                plan,
                pruned,
                feeds,
                tolerance=given.tolerance,
                run=given.run,
            )
        if proof.silent:
            self._require_provable(subject.model)
            raise _silent(proof.details)
        inexact, details = tuple(proof.inexact), tuple(proof.details)
        compared, runs = proof.certificate.compared, len(feeds)
        return ProofReport(proof.ok, proof.error, proof.tolerance, inexact, details, compared, runs)

    def _breaks(self, subject: Subject, plan: Plan, groups: tuple[str, ...]) -> bool:
        """Whether cutting only these groups fails the proof; a cut that is not legal alone does not count."""
        from graphprune.prune.rewrite import rewrite

        part = plan.restricted(set(groups))
        try:
            return not self._proof(subject, part, rewrite(subject.model, subject.analysis, part)).ok
        except GraphpruneError:
            return False

    def _transformed(self, item: Pass, model: ir.Model, sizes: Sizes, last: bool) -> Step:
        with self.clock.phase("decide"):
            with blamed(item):
                changed = item.transform(model.clone(), self._context(item))
            require_model(item, changed)
        self._check(changed, item, last)
        proof = self._same_function(model, changed)
        if not proof.ok:
            details = "".join(f"\n  {escape(line)}" for line in proof.details)
            raise ProofError(
                f"{item} changed the function: error {proof.error:.3g}{details}", fault_hint(item)
            )
        self.cut = None
        return Step(item, changed, proof)

    def _same_function(self, before: ir.Model, after: ir.Model) -> ProofReport:
        with self.clock.phase("prove"):
            agreed = agree(before, after, self.samples.feeds, self.settings, exact=True)
        error = max((output.relative for output in agreed.outputs), default=0.0)
        notes = tuple(f"{output.name}: {output.note}" for output in agreed.outputs if output.note)
        runs = len(self.samples.feeds)
        return ProofReport(agreed.ok, error, self.settings.tolerance, (), notes, runs=runs)

    def _check(self, model: ir.Model, item: Pass, last: bool) -> None:
        """The structural verifier; what it finds after a pass is a fault of the pass."""
        if not (last or self.settings.verify_each):
            return
        with self.clock.phase("check"):
            try:
                check(model, self.settings.limits)
            except GraphpruneError as error:
                message = f"{item} left an invalid model: {error.message}"
                raise ProofError(message, fault_hint(item)) from error


def _cuts(plan: Plan) -> bool:
    """Whether a plan removes anything."""
    return bool(plan.bypassed) or any(len(kept) < plan.widths[group] for group, kept in plan.cuts.items())


def suspects(model: ir.Model) -> str:
    """Whose fault a failed proof probably is, where other packages say what operators of the model are."""
    rows = " or ".join(f"{', '.join(row.ops)} ({row.origin})" for row in foreign(model))
    return rows and f"probably the rule or body of {rows}"


def _known(size: Size | None) -> dict[str, int]:
    """What budgets are a share of, by the argument's name."""
    if size is None:
        return {}
    found = {what: getattr(size, what) for what in COUNTED}
    return {what: count for what, count in found.items() if count is not None}


def _narrowed(subject: Subject, plan: Plan, pruned: ir.Model) -> Narrow:
    """How feeds follow a cut of cache inputs; the analysis is kept for it only where there is one."""
    from graphprune.proof.prove import cut_feeds
    from graphprune.proof.survivors import Survivors

    if not summary.narrowed_inputs(subject.model, pruned):
        return same
    model, survivors = subject.model, Survivors(subject.analysis, plan)
    return lambda feed: cut_feeds(model, survivors, feed)


def _silent(details: Sequence[str]) -> PromiseError:
    """Nothing is wrong with a cut that leaves nothing to compare, but nobody would want it."""
    notes = "".join(f"\n  {escape(line)}" for line in details)
    hint = (
        "cut less (a smaller ratio, a larger min-keep), or give inputs to which the rest responds (--inputs)"
    )
    return PromiseError(f"nothing can be proved: after this cut no output can be compared{notes}", hint)
