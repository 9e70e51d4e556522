"""The proof of one rewrite: certificate of tensors, then M_R and the pruned model on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.errors import GraphpruneError
from graphprune.ir.graphs import graphs_of
from graphprune.ir.names import called
from graphprune.ops.door import foreign
from graphprune.ops.record import Record
from graphprune.proof.certificate import Certificate, certify
from graphprune.proof.compare import Comparison
from graphprune.proof.decisions import Decision, Tap, find_decisions
from graphprune.proof.declared import declare
from graphprune.proof.pairing import contents, pair
from graphprune.proof.reference import build_reference
from graphprune.proof.rounding import Bounds, nudged, own_rounding
from graphprune.proof.scales import squashers
from graphprune.proof.survivors import Survivors, illegal
from graphprune.prune.plan import Plan
from graphprune.run import USUAL, Run
from graphprune.runtime.brief import rewriting_pays
from graphprune.runtime.compare import TOLERANCE
from graphprune.runtime.session import Outputs, RunTimeoutError, open_session

HALF = {ir.DataType.FLOAT16: 5e-3, ir.DataType.BFLOAT16: 4e-2}
"""Bounds for models that compute in half precision: five, and five, steps of the format."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Proof:
    """What a proof found.

    Attributes:
        ok: nothing failed, and at least one output proved something.
        error: the worst difference of any compared value, relative to its largest element.
        errors: the worst relative difference per graph output.
        certificate: the comparison of tensors and attributes.
        inexact: nodes that compute another function on purpose.
        notes: what limits the proof.
        failures: what is wrong, by tensor, node or output.
        tolerance: the bound on `error`; wider than asked for where the model's own rounding is.
        silent: whether it failed only because no output says anything, and not because one disagrees.
    """

    ok: bool
    error: float
    errors: Mapping[str, float]
    certificate: Certificate
    inexact: tuple[str, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    tolerance: float
    silent: bool = False

    @property
    def details(self) -> tuple[str, ...]:
        """Failures first, then what changed on purpose, then notes."""
        changed = tuple(f"{name} computes another function on purpose" for name in self.inexact)
        return (*self.failures, *changed, *self.notes)


def prove(
    dense: ir.Model,
    analysis: Analysis,
    plan: Plan,
    pruned: ir.Model,
    inputs: Sequence[Feeds],
    *,
    tolerance: float = TOLERANCE,
    run: Run = USUAL,
) -> Proof:
    """Proves that `pruned` is what `plan` makes of `dense`, and computes what M_R computes.

    Args:
        dense: the normalised model that was analysed; it is only read.
        analysis: of that model.
        plan: what was decided.
        pruned: the result of the rewrite.
        inputs: feeds of the dense model; cache inputs are cut for the pruned model here.
        tolerance: bound on max|a - b| / max|a| per value; half precision has a bound of its own.
        run: how long one run of either model may take.

    A proof that fails is a result, not an exception.

    Raises:
        RunTimeoutError: a run was stopped, so nothing is known.
    """
    bound = max([tolerance, *(HALF[kind] for kind in _kinds(dense) & set(HALF))])
    refused = illegal(analysis, plan)
    if refused:
        return _verdict(Certificate(0, ()), None, (), [], refused, bound)
    survivors = Survivors(analysis, plan)
    declared = declare(survivors)
    pairing = pair(dense, pruned, declared)
    certificate = certify(survivors, declared, pairing)
    try:
        reference = build_reference(dense, survivors)
    except GraphpruneError as error:
        return _verdict(certificate, None, (), [], [error.message], bound)
    decisions, hidden = find_decisions(dense, survivors, reference, pairing)
    notes = [f"{name} decides inside a branch; its inputs were not compared" for name in hidden]
    notes += [_on_word(row) for row in foreign(dense) if row.believed]
    both = _Both(dense, survivors, reference.model, pruned, decisions, inputs, run)
    try:
        comparison = both.compare(bound, widen=not certificate.differences)
    except RunTimeoutError:
        raise
    except GraphpruneError as error:
        return _verdict(certificate, None, reference.inexact, notes, [error.message], bound)
    return _verdict(certificate, comparison, reference.inexact, notes, [], comparison.bounds.widest)


def _on_word(row: Record) -> str:
    return f"{', '.join(row.ops)} is taken for what the body in {row.origin} computes, on its word"


@dataclass(frozen=True)
class _Both:
    """M_R and the pruned model, to be run on the same inputs."""

    dense: ir.Model
    survivors: Survivors
    reference: ir.Model
    pruned: ir.Model
    decisions: list[Decision]
    inputs: Sequence[Feeds]
    run: Run

    def compare(self, bound: float, widen: bool) -> Comparison:
        """Every input through both; where `widen`, bounds make room for the model's own rounding.

        Raises:
            GraphpruneError: one of them does not run.
        """
        taps = [tap for each in self.decisions for tap in (*each.inputs, *each.outputs)]
        names = [tap.reference for tap in taps]
        optimise = rewriting_pays(self.reference)
        masked = _run(self.reference, self.inputs, names, self.run, optimise)
        cut = [cut_feeds(self.dense, self.survivors, feeds) for feeds in self.inputs]
        result = _run(self.pruned, cut, [tap.pruned for tap in taps], self.run, optimise)
        comparison = self._compared(masked, result, Bounds(bound))
        if not widen or comparison.silent or not comparison.failures():
            return comparison
        other = _run(self.reference, self.inputs, names, self.run, not optimise)
        near = _run(nudged(self.reference), self.inputs, names, self.run, optimise)
        rounding = own_rounding(masked, other, near, squashed=_squashed(self.dense, taps))
        return self._compared(masked, result, Bounds(bound, rounding))

    def _compared(self, masked: list[Outputs], result: list[Outputs], bounds: Bounds) -> Comparison:
        comparison = Comparison(self.survivors, self.dense, self.decisions, bounds)
        for one, two in zip(masked, result, strict=True):
            comparison.add(one, two)
        return comparison


def _kinds(model: ir.Model) -> set[ir.DataType]:
    """Element types of the weights and outputs of a model."""
    values = [v for graph in graphs_of(model) for v in graph.initializers.values()]
    found = {contents(value).dtype for value in values if value.uses()}
    return found | {value.dtype for value in model.graph.outputs if value.dtype is not None}


def _squashed(dense: ir.Model, taps: Sequence[Tap]) -> set[str]:
    """Names, in M_R, of what is compared on a full scale of 1."""
    values = {value.name or "": value for value in dense.graph.outputs}
    values |= {tap.reference: tap.value for tap in taps}
    return {name for name, value in values.items() if squashers(value)}


def _run(
    model: ir.Model,
    inputs: Sequence[Feeds],
    extra: Sequence[str],
    run: Run,
    optimise: bool,
) -> list[Outputs]:
    """Every input through one session, which is gone before the next one is opened."""
    names = list(dict.fromkeys(extra))
    session = open_session(model, optimise=optimise, extra_outputs=names, exact=True, rearrange=False)
    return [session.run(feeds, run.timeout) for feeds in inputs]


def cut_feeds(dense: ir.Model, survivors: Survivors, feeds: Feeds) -> dict[str, np.ndarray]:
    """The feeds of the pruned model: cache inputs without the slots that went."""
    labels = {v.name: survivors.analysis.values.get(v, ()) for v in dense.graph.inputs}
    ends = {past.name for sublayer in survivors.bypassed for past, _ in sublayer.caches}
    stay = {name: array for name, array in feeds.items() if name not in ends}
    return {name: survivors.restrict(array, labels.get(name, ())) for name, array in stay.items()}


def _verdict(
    certificate: Certificate,
    comparison: Comparison | None,
    inexact: Sequence[ir.Node],
    notes: Sequence[str],
    failures: Sequence[str],
    bound: float,
) -> Proof:
    found = [*certificate.differences, *failures]
    silent = not found and comparison is not None and comparison.silent
    remarks = list(notes)
    if comparison is not None:
        found += comparison.failures()
        remarks += comparison.notes()
    error = float("inf") if comparison is None else comparison.error
    return Proof(
        ok=not found,
        error=error,
        errors={} if comparison is None else comparison.errors,
        certificate=certificate,
        inexact=tuple(called(node) for node in inexact),
        notes=tuple(dict.fromkeys(remarks)),
        failures=tuple(dict.fromkeys(found)),
        tolerance=bound,
        silent=silent,
    )
