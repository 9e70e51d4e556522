"""Lowering in a compile: the result as an equal graph that ONNX Runtime runs faster, proved equal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from graphprune.axes.assumed import concrete_sizes
from graphprune.errors import GraphpruneError, PromiseError
from graphprune.ir.check import check
from graphprune.ir.names import quote
from graphprune.lowering.lower import Rules, lowered, opened
from graphprune.lowering.rules import BY_NAME
from graphprune.lowering.table import here, table
from graphprune.pipeline import budgets, measure, summary
from graphprune.pipeline.bisect import smallest_failing
from graphprune.pipeline.clock import Clock
from graphprune.pipeline.report import LoweringReport, LoweringUse, ProofReport, Size
from graphprune.pipeline.samples import Samples
from graphprune.pipeline.settings import Settings

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.lowering.engine import Use
    from graphprune.pipeline.manager import Step
    from graphprune.pipeline.planfile import PlanFile
    from graphprune.proof.lowered import Lowered

GROWS = ("affine-norm",)
"""Rules whose result has a few parameters more."""


@dataclass(frozen=True)
class Lowering:
    """What a model is lowered with.

    Attributes:
        samples: of the dense model; what proofs run on.
        kept: weights that no rule may touch.
        settings: how to run.
        clock: charged with every phase.
    """

    samples: Samples
    kept: set[str]
    settings: Settings
    clock: Clock


@dataclass(frozen=True)
class Outcome:
    """A lowered model, how it came about, its size as it is written, and lines to act on."""

    model: ir.Model
    how: Rules
    report: LoweringReport
    size: Size
    warnings: tuple[str, ...] = ()


def rules_of(settings: Settings, plan: PlanFile | None) -> Rules | None:
    """What to lower by: as the plan says, or what the target opens; None where nothing is to be lowered.

    Raises:
        DataError: the target is a file, and no device profile.
        PromiseError: the plan lowers by a rule that is not here.
    """
    if not settings.lower:
        return None
    if plan is None:
        return opened(os.fsdecode(settings.target), settings.opset == "auto")
    missing = [name for name in (plan.lowering.rules if plan.lowering else ()) if name not in BY_NAME]
    if missing:
        hint = "--no-lower writes the result as the passes leave it"
        raise PromiseError(f"the plan lowers by {quote(missing[0])}, a rule that is not here", hint)
    return plan.lowering


def lower_result(
    dense: ir.Model, steps: Sequence[Step], sizes: Sequence[Size], given: Lowering, how: Rules
) -> Outcome:
    """Lower what passes made of a model.

    Where lowering alone would miss a budget, the rules that add parameters are left out.

    Args:
        dense: the model before the passes.
        steps: the passes.
        sizes: of the dense model and after each pass.
        given: what it is done with.
        how: the rules.
    """
    samples, model = given.samples, dense
    for step in steps:
        samples = samples.without(summary.lost_inputs(model, step.model), step.narrow)
        model = step.model
    masks = {name for step in steps if step.plan is not None for name in step.plan.masks}
    lowerer = _Lowerer(model, samples, masks | given.kept, given.settings, given.clock)
    outcome = lowerer.run(how)
    written = [*sizes[:-1], _larger(sizes[-1], outcome.size)]
    if budgets.missed(steps, written) and not budgets.missed(steps, sizes):
        return lowerer.run(how.without(GROWS))
    return outcome


@dataclass(frozen=True)
class _Lowerer:
    """Lowers one model in normal form, which is only read."""

    model: ir.Model
    samples: Samples
    kept: Collection[str]
    settings: Settings
    clock: Clock

    def run(self, how: Rules) -> Outcome:
        """The lowered model; what fails the proof is taken back by its rules, and named."""
        taken: tuple[str, ...] = ()
        while True:
            model, uses, proof = self._tried(how)
            if proof.ok:
                break
            guilty = self._guilty(how, uses)
            taken, how = (*taken, *guilty), how.without(guilty)
        report = LoweringReport(
            target=how.target,
            table=how.table,
            uses=self._uses(model, uses),
            proof=proof,
            taken_back=taken,
            nodes_before=len(self.model.graph),
            nodes_after=len(model.graph),
            opset_before=self.model.opset_imports.get("", 0),
            opset_after=model.opset_imports.get("", 0),
        )
        lines = [
            f"lowering by {quote(name)} changes what the model computes: it is taken back" for name in taken
        ]
        with self.clock.phase("report"):
            size = measure.size(model, self.samples.counted, given=self.settings.shape)
        return Outcome(model, how, report, size, tuple(lines))

    def _tried(self, how: Rules) -> tuple[ir.Model, tuple[Use, ...], ProofReport]:
        with self.clock.phase("lower"):
            model, uses = lowered(self.model, how, self.kept)
        if not uses:
            return self.model, (), ProofReport(True, 0.0, self.settings.tolerance)
        with self.clock.phase("check"):
            check(model, self.settings.limits)
        with self.clock.phase("prove"):
            return model, uses, self._proof(model)

    def _guilty(self, how: Rules, uses: Sequence[Use]) -> tuple[str, ...]:
        """The smallest set of rules that fails."""
        self.settings.progress(0, 0, "bisect lower")
        names = tuple(dict.fromkeys(use.rule for use in uses))
        others = set(how.rules)

        def fails(some: tuple[str, ...]) -> bool:
            try:
                return not self._tried(how.without(others - set(some)))[2].ok
            except GraphpruneError:
                return True

        return smallest_failing(names, fails)

    def _proof(self, model: ir.Model) -> ProofReport:
        """Region by region, and the whole on what proofs run on."""
        from graphprune.proof.lowered import prove_lowered, prove_whole

        feeds = self.samples.feeds
        shapes = {name: array.shape for name, array in feeds[0].items()}
        bound, run = self.settings.tolerance, self.settings.run
        parts = prove_lowered(self.model, model, shapes, bound, run)
        whole = prove_whole(self.model, model, feeds, bound, run)
        error = max(whole.error, parts.error)
        return ProofReport(parts.ok and whole.ok, error, whole.bound, (), (*whole.details, *_said(parts)))

    def _uses(self, model: ir.Model, uses: Sequence[Use]) -> tuple[LoweringUse, ...]:
        """Each rule once: how often, and the milliseconds that it is foreseen to save on one sample."""
        elements = _elements(model, self.samples.counted)
        place, saved = here(), dict[str, float]()
        for use in uses:
            foreseen = table().saved(use.rule, elements.get(use.value, 0), use.fewer, place)
            saved[use.rule] = saved.get(use.rule, 0.0) + foreseen
        counts = Counter(use.rule for use in uses)
        return tuple(LoweringUse(name, count, round(saved[name], 6)) for name, count in counts.items())


def _said(parts: Lowered) -> tuple[str, ...]:
    lines = [f"{quote(name)} is computed otherwise" for name in parts.wrong[:4]]
    if parts.skipped:
        lines.append(f"{len(parts.skipped)} regions do not run alone and are compared as parts of the whole")
    return (f"{parts.regions} regions compared at kinks, infinities, NaN and large numbers", *lines)


def _elements(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    sizes = concrete_sizes(model, shapes).shapes
    return {
        value.name or "": prod(a for a, _ in found) for value, found in sizes.items() if found is not None
    }


def _larger(one: Size, two: Size) -> Size:
    """The larger figure of a model before and after it was lowered, and its bytes as they are written."""
    macs = None if one.macs is None or two.macs is None else max(one.macs, two.macs)
    return replace(one, params=max(one.params, two.params), macs=macs, bytes=two.bytes)
