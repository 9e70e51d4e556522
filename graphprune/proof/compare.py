"""Compares what M_R and the pruned model computed: outputs, and the inputs of discontinuous nodes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.names import called
from graphprune.labels.state import Axes
from graphprune.proof.decisions import Decision, Tap, behind, find_holders, unexplained
from graphprune.proof.rounding import Bounds
from graphprune.proof.scales import full_scale, squashers
from graphprune.proof.survivors import Survivors
from graphprune.runtime.compare import OutputAgreement, agreement
from graphprune.runtime.session import Outputs


class Comparison:
    """Collects the agreement of both models over several inputs.

    A result of a discontinuous node that differs only because rounding tipped it makes everything behind it
    incomparable on that input; the proof then rests on the other inputs.
    """

    def __init__(
        self, survivors: Survivors, dense: ir.Model, decisions: list[Decision], bounds: Bounds
    ) -> None:
        self._survivors, self._dense, self._decisions = survivors, dense, decisions
        self.bounds, self._holders = bounds, find_holders(dense)
        self._failures: list[str] = []
        self._notes: list[str] = []
        self._proved: set[str] = set()
        self._silent: dict[str, str] = {}
        ends = {end for sublayer in survivors.bypassed for pair in sublayer.caches for end in pair}
        self._outputs = [value for value in dense.graph.outputs if value not in ends]
        self._runs = 0
        self.error = 0.0
        self.errors: dict[str, float] = {}

    def add(self, reference: Outputs, pruned: Outputs) -> None:
        """Compares one run of both models."""
        self._runs += 1
        tipped = self._compare_decisions(reference, pruned)
        hidden = behind(tipped, self._holders)
        for value in self._outputs:
            if value in hidden:
                continue
            for name in [n for n in reference if _belongs(n, value)]:
                self._output(value, name, reference[name], pruned.get(name))

    def _output(self, value: ir.Value, name: str, a: Array, b: Array | None) -> None:
        a = self._numbered(value, self._kept(value, a))
        found = self._agree(f"output {name!r}", value, a, b, self.bounds.of(name))
        self.errors[name] = max(self.errors.get(name, 0.0), found.relative)
        if found.proves:
            self._proved.add(name)
        else:
            self._silent.setdefault(name, found.note)

    def _kept(self, value: ir.Value, array: Array) -> Array:
        labels: Axes = self._survivors.analysis.values.get(value, ())
        return self._survivors.restrict(array, labels) if len(labels) == array.ndim else array

    def _numbered(self, value: ir.Value, array: Array) -> Array:
        """Positions on a cut axis in kept numbering; a position that is gone becomes -1."""
        label = self._survivors.analysis.state.facts.indices.get(value)
        mask = None if label is None else self._survivors.mask(label)
        if mask is None:
            return array
        number = np.where(mask, np.cumsum(mask) - 1, -1)
        table = self._survivors.analysis.state.facts.tables.get(value)
        if table is not None or array.dtype.kind not in "iu":
            return _renumbered(array, number, np.arange(len(mask)) if table is None else table)
        return np.asarray(number[array.astype(np.int64) % len(mask)]).astype(array.dtype)

    def _agree(self, what: str, value: ir.Value, a: Array, b: Array | None, bound: float) -> OutputAgreement:
        if squashers(value):
            a, b = full_scale(a), None if b is None else full_scale(b)
        found = agreement({what: a}, {} if b is None else {what: b}, bound).outputs[0]
        self.error = max(self.error, found.relative)
        if not found.ok:
            self._failures.append(f"{what}: {found.note}")
        return found

    def _compare_decisions(self, reference: Outputs, pruned: Outputs) -> list[ir.Node]:
        """Compares the inputs of discontinuous nodes in order; returns the nodes that rounding tipped."""
        tipped: list[ir.Node] = []
        hidden: set[ir.Value] = set()
        for decision in self._decisions:
            if any(value in hidden for value in decision.node.inputs):
                continue
            a = {tap.reference: self._read(tap, reference) for tap in (*decision.inputs, *decision.outputs)}
            b = {tap.reference: pruned[tap.pruned] for tap in (*decision.inputs, *decision.outputs)}
            gap = 0.0
            for tap in decision.inputs:
                what = f"input {tap.value.name!r} of {called(decision.node)}"
                one, two = a[tap.reference], b[tap.reference]
                self._agree(what, tap.value, one, two, self.bounds.of(tap.reference))
                gap = max(gap, _gap(one, two))
            if decision.outputs and self._differs(decision, a, b):
                self._tip(decision, a, b, gap)
                tipped.append(decision.node)
                hidden |= behind([decision.node], self._holders)
        return tipped

    def _read(self, tap: Tap, reference: Outputs) -> Array:
        return self._numbered(tap.value, self._kept(tap.value, reference[tap.reference]))

    def _differs(self, decision: Decision, a: dict[str, Array], b: dict[str, Array]) -> bool:
        for tap in decision.outputs:
            one, two = a[tap.reference], b[tap.reference]
            rounds = decision.node.op_type in ("Round", "Floor", "Ceil", "Sign", "Hardmax")
            if (rounds or one.dtype.kind in "biu") and not np.array_equal(one, two):
                return True
        return False

    def _tip(self, decision: Decision, a: dict[str, Array], b: dict[str, Array], gap: float) -> None:
        name = called(decision.node)
        wrong = unexplained(decision, a, b, gap)
        if wrong:
            self._failures.append(wrong)
        else:
            self._notes.append(f"rounding tipped {name} on an input; what follows it was not compared there")

    @property
    def silent(self) -> bool:
        """Whether nothing disagrees because no output says anything, or rounding tipped what leads to it."""
        return bool(self._runs) and not self._failures and not self._proved

    def failures(self) -> list[str]:
        """What disagrees, and why nothing was proven if nothing was."""
        if self._failures:
            return self._failures
        if not self._runs:
            return ["nothing was run: there are no inputs"]
        if not self._proved:
            why = "; ".join(sorted({f"{name}: {note}" for name, note in self._silent.items()}))
            return [f"no output proves anything ({why or 'rounding hides all of them'})"]
        return []

    def notes(self) -> list[str]:
        """Outputs whose agreement means nothing, and decisions that rounding tipped."""
        silent = {name: note for name, note in self._silent.items() if name not in self._proved}
        never = [v.name for v in self._outputs if not any(_belongs(n, v) for n in self.errors)]
        return [
            *self._notes,
            *self.bounds.notes,
            *(f"output {name!r} proves nothing: {note}" for name, note in silent.items()),
            *(f"output {name!r} was never compared" for name in never),
        ]


def _renumbered(array: Array, number: Array, table: Array) -> Array:
    """Functions of positions: what the same function makes of the position in kept numbering."""
    numbers = np.asarray(table, np.float64)
    position = np.abs(np.asarray(array, np.float64)[..., None] - numbers).argmin(-1)
    return np.where(number[position] < 0, -1.0, numbers[number[position]]).astype(array.dtype)


def _gap(a: Array, b: Array) -> float:
    """The largest difference of two arrays where both are finite; what explains a decision that differs."""
    if a.shape != b.shape:
        return 0.0
    one, two = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(two)
    return float(np.max(np.abs(one[finite] - two[finite]), initial=0.0))


def _belongs(name: str, value: ir.Value) -> bool:
    """Whether an array of a run is this output, or a part of it if it is a sequence or a map."""
    return name == value.name or name.startswith(f"{value.name}[")
