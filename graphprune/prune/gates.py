"""Gates: the dense model with one more input per Group and sublayer, so that one session tries any cut.

A gate multiplies what the Units of a Group contribute, on every edge where their width is contracted, reduced
or normalised (the edges that the masked reference masks): 1 leaves a Unit, 0 takes it away. Where a removed
slot must lose a competition (a router's logits, a maximum), 0 gives it a value that does. A sublayer has one
number, on the operand of its sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.axes.kept import Cuts
from graphprune.axes.sublayers import Sublayer
from graphprune.ir.arrays import Array, Ids
from graphprune.ir.build import Names, graph_of, initializer, new_node
from graphprune.ir.clone import Copy, copy_model
from graphprune.ir.element import FLOATS
from graphprune.ir.names import called
from graphprune.labels.algebra import Factor, Label
from graphprune.labels.state import Contraction, Use
from graphprune.runtime.session import Feeds, Outputs, open_session

PREFIX = "graphprune/gate/"
SELECTABLE = frozenset({ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.INT64})
"""Integer types that ONNX Runtime selects from; others pass through int32."""
LOSES = {"-inf": -1e9}


@dataclass(frozen=True, eq=False)
class Gated:
    """A model with gates.

    Attributes:
        model: takes the inputs of the dense model and the gates, and returns the dense model's outputs.
        groups: name of the gate input, [Units] float32, by Group id.
        sublayers: name of the gate input, a float32 number, by name of the sublayer.
        refused: why other Groups that were asked for have no gate, by id.
    """

    analysis: Analysis
    model: ir.Model
    groups: Mapping[str, str]
    sublayers: Mapping[str, str]
    refused: Mapping[str, str]

    def gates(self, cuts: Cuts | None = None, bypassed: Iterable[str] = ()) -> dict[str, Array]:
        """The gate inputs that keep these Units, and everything that is not named."""
        feeds: dict[str, Array] = {}
        for group in self.analysis.groups:
            if group.id in self.groups:
                gate = np.ones(group.size, np.float32)
                if cuts is not None and group.id in cuts:
                    gate[np.delete(np.arange(group.size), list(cuts[group.id]))] = 0
                feeds[self.groups[group.id]] = gate
        gone = set(bypassed)
        for name, gate_name in self.sublayers.items():
            feeds[gate_name] = np.array(0 if name in gone else 1, np.float32)
        return feeds


class Candidates:
    """One ONNX Runtime session that computes what the cut model would compute, for any cut.

    Outputs are in dense coordinates; on an output axis that shrinks, the slots of removed Units mean nothing.
    """

    def __init__(self, gated: Gated, timeout: float | None = None) -> None:
        self.gated, self._timeout = gated, timeout
        self._session = open_session(gated.model, exact=True)

    def run(self, feeds: Feeds, cuts: Cuts | None = None, bypassed: Iterable[str] = ()) -> Outputs:
        """The outputs of one candidate on one batch."""
        return self._session.run({**feeds, **self.gated.gates(cuts, bypassed)}, self._timeout)


def gated(
    analysis: Analysis, groups: Iterable[Group] | None = None, sublayers: Iterable[Sublayer] = ()
) -> Gated:
    """Puts gates into a copy of the analysed model.

    Args:
        analysis: of the dense model.
        groups: those that get gates; all prunable ones if None.
        sublayers: those that get gates.
    """
    wanted = list(analysis.prunable if groups is None else groups)
    refused = dict(_refused(analysis, wanted))
    surgery = _Surgery(analysis, copy_model(analysis.model), [g for g in wanted if g.id not in refused])
    for contraction in analysis.contractions:
        surgery.edge(contraction)
    switches = {sublayer.name: surgery.switch(sublayer) for sublayer in sublayers}
    names = {group.id: value.name or "" for group, value in surgery.inputs.items()}
    return Gated(analysis, surgery.copy.model, names, switches, refused)


def competing(analysis: Analysis, groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups whose Units somewhere compete, such as experts for tokens: there zero weights remove nothing."""
    rivals = (each for each in analysis.contractions if each.fill != "zero" and ":" not in each.fill)
    fights = [_label(analysis, each) for each in rivals]  # "input:2" is the zero point of integers
    leaves = ((group, _Leaves(analysis, [group])) for group in groups) if fights else ()
    return tuple(group for group, mine in leaves if any(mine.touches(label) for label in fights))


def _refused(analysis: Analysis, groups: Iterable[Group]) -> Iterator[tuple[str, str]]:
    """Groups whose removal is more than a gate on edges."""
    for group in groups:
        mine = _Leaves(analysis, [group])
        for node, label in analysis.inexact.items():
            if mine.touches(label):
                yield group.id, f"{called(node)} would compute another function"
        for contraction in analysis.contractions:
            label = _label(analysis, contraction)
            if any(factor.size[0] != factor.size[1] for factor in label) and mine.touches(label):
                yield group.id, f"{contraction.node.op_type} contracts an axis whose size is not known"


def _label(analysis: Analysis, contraction: Contraction) -> Label:
    node, position = contraction.node, contraction.position
    value = node.inputs[position]
    labels = analysis.uses.get(Use(node, position))
    if labels is None:
        labels = analysis.values.get(value, ()) if value is not None else ()
    return labels[contraction.axis] if contraction.axis < len(labels) else ()


@dataclass(frozen=True, eq=False)
class _Part:
    """Which Unit's gate each position of a factor reads; the number of Units where it reads none."""

    group: Group
    index: Ids


class _Leaves:
    """Group and Unit behind every atom."""

    def __init__(self, analysis: Analysis, groups: Sequence[Group]) -> None:
        self.atoms, self.groups = analysis.state.atoms, groups
        self._group = np.full(len(self.atoms), -1, np.int64)
        self._unit = np.zeros(len(self.atoms), np.int64)
        for number, group in enumerate(groups):
            leaves = self.atoms.find(group.atoms)
            self._group[leaves], self._unit[leaves] = number, np.arange(group.size)

    def parts(self, factor: Factor) -> list[_Part]:
        """The gates of one factor, each Group (and each way to it) once."""
        if factor.atoms is None:
            return []
        position, leaf, path = self.atoms.base(factor.atoms)
        number = self._group[leaf]
        parts: dict[tuple[int, bytes], _Part] = {}
        for found, way in sorted({(int(n), int(p)) for n, p in zip(number, path, strict=True) if n >= 0}):
            group, mine = self.groups[found], (number == found) & (path == way)
            index = np.full(factor.size[0], group.size, np.int64)
            index[position[mine]] = self._unit[leaf[mine]]
            parts[(found, index.tobytes())] = _Part(group, index)
        return list(parts.values())

    def touches(self, label: Label) -> bool:
        """Whether any slot of an axis belongs to one of the Groups."""
        return any(
            bool((self._group[self.atoms.base(factor.atoms)[1]] >= 0).any())
            for factor in label
            if factor.atoms is not None
        )


@dataclass(eq=False)
class _Surgery:
    """Gates on their way into a copy. What only gates are computed from stands before the first node."""

    analysis: Analysis
    copy: Copy
    groups: Sequence[Group]
    inputs: dict[Group, ir.Value] = field(default_factory=dict)
    _slots: dict[tuple[tuple[tuple[int, tuple[tuple[str, bytes], ...]], ...], int, ir.DataType], ir.Value] = (
        field(default_factory=dict)
    )
    _names: Names = field(default_factory=lambda: Names(PREFIX))

    def __post_init__(self) -> None:
        self._leaves = _Leaves(self.analysis, self.groups)
        self._first = next(iter(self.copy.model.graph))
        self._padded: dict[Group, ir.Value] = {}
        for group in self.groups:
            self.inputs[group] = self._input((group.size,))

    # -- edges

    def edge(self, contraction: Contraction) -> None:
        """Gates one contracted axis."""
        label = self.analysis.state.algebra.normal(_label(self.analysis, contraction))
        if not self._leaves.touches(label):
            return
        node = self.copy.nodes[contraction.node]
        value = node.inputs[contraction.position]
        assert value is not None
        dtype = _dtype(value)
        labels = self.analysis.uses.get(Use(contraction.node, contraction.position))
        rank = len(labels if labels is not None else self.analysis.values[self._dense(contraction)])
        slots = self._per_slot(label, rank - contraction.axis - 1, dtype)
        if contraction.fill.startswith("input:"):
            other = node.inputs[int(contraction.fill.removeprefix("input:"))]
            assert other is not None
            gatedvalue = self._selected(node, value, slots, other, dtype)
        elif dtype not in FLOATS:
            number = self._constant(np.array(_loser(contraction.fill, dtype), dtype.numpy()))
            gatedvalue = self._selected(node, value, slots, number, dtype)
        else:
            gatedvalue = self._scaled(node, value, slots, contraction.fill, dtype)
        node.replace_input_with(contraction.position, gatedvalue)

    @staticmethod
    def _dense(contraction: Contraction) -> ir.Value:
        value = contraction.node.inputs[contraction.position]
        assert value is not None
        return value

    def _scaled(
        self, node: ir.Node, value: ir.Value, slots: ir.Value, fill: str, dtype: ir.DataType
    ) -> ir.Value:
        """Value * gate + (1 - gate) * what loses."""
        scaled = self._node(node, "Mul", value, slots)
        if fill == "zero":
            return scaled
        one = self._constant(np.ones((), dtype.numpy()))
        lost = self._constant(np.array(_loser(fill, dtype), dtype.numpy()))
        offset = self._node(node, "Mul", self._node(node, "Sub", one, slots), lost)
        return self._node(node, "Add", scaled, offset)

    def _selected(
        self, node: ir.Node, value: ir.Value, slots: ir.Value, other: ir.Value, dtype: ir.DataType
    ) -> ir.Value:
        kept = self._node(node, "Greater", slots, self._constant(np.array(0.5, _dtype(slots).numpy())))
        kept.dtype = ir.DataType.BOOL
        if dtype in FLOATS or dtype in SELECTABLE:
            return self._where(node, kept, value, other)
        wide = ir.DataType.INT32.value
        one, two = (self._node(node, "Cast", v, to=wide) for v in (value, other))
        return self._node(node, "Cast", self._where(node, kept, one, two), to=dtype.value)

    def _where(self, node: ir.Node, kept: ir.Value, one: ir.Value, two: ir.Value) -> ir.Value:
        chosen = self._node(node, "Where", kept, one, two)
        if two.dtype is not None:
            chosen.dtype = two.dtype
        return chosen

    # -- what the gates make of the slots of an axis

    def _per_slot(self, label: Label, tail: int, dtype: ir.DataType) -> ir.Value:
        """The product of the gates behind each slot of an axis, followed by `tail` axes of size 1."""
        kind = dtype if dtype in FLOATS else ir.DataType.FLOAT
        factors = [(factor.size[0], self._leaves.parts(factor)) for factor in label]
        key = (
            tuple((n, tuple((p.group.id, p.index.tobytes()) for p in parts)) for n, parts in factors),
            tail,
            kind,
        )
        if key not in self._slots:
            vector = self._outer(factors)
            shape = self._constant(np.array([-1] + [1] * tail, np.int64))
            shaped = self._early("Reshape", vector, shape)
            cast = shaped if kind == ir.DataType.FLOAT else self._early("Cast", shaped, to=kind.value)
            cast.dtype = kind
            self._slots[key] = cast
        return self._slots[key]

    def _outer(self, factors: Sequence[tuple[int, Sequence[_Part]]]) -> ir.Value:
        total: ir.Value | None = None
        for number, (size, parts) in enumerate(factors):
            behind = len(factors) - number - 1
            shape = self._constant(np.array([size] + [1] * behind, np.int64))
            vectors = [self._gathered(part) for part in parts]
            if not vectors:
                vectors = [self._constant(np.ones(size, np.float32))]
            for vector in vectors:
                shaped = self._early("Reshape", vector, shape)
                total = shaped if total is None else self._early("Mul", total, shaped)
        assert total is not None
        return total

    def _gathered(self, part: _Part) -> ir.Value:
        if part.group not in self._padded:
            one = self._constant(np.ones(1, np.float32))
            self._padded[part.group] = self._early("Concat", self.inputs[part.group], one, axis=0)
        return self._early("Gather", self._padded[part.group], self._constant(part.index), axis=0)

    # -- sublayers

    def switch(self, sublayer: Sublayer) -> str:
        """Gates the operand of a sum; returns the name of the gate."""
        gate = self._input(())
        join = self.copy.nodes[sublayer.join]
        value = join.inputs[sublayer.position]
        assert value is not None
        dtype = _dtype(value)
        factor = gate if dtype == ir.DataType.FLOAT else self._early("Cast", gate, to=dtype.value)
        join.replace_input_with(sublayer.position, self._node(join, "Mul", value, factor))
        return gate.name or ""

    # -- nodes

    def _input(self, shape: tuple[int, ...]) -> ir.Value:
        value = ir.Value(
            name=self._names.fresh(), shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT)
        )
        self.copy.model.graph.inputs.append(value)
        return value

    def _constant(self, array: Array) -> ir.Value:
        return initializer(self.copy.model.graph, self._names.fresh(), array)

    def _early(self, op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        return self._node(self._first, op, *inputs, **attributes)

    def _node(self, before: ir.Node, op: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = new_node(op, inputs, self._names.fresh(), attributes)
        kind = ir.DataType(attributes["to"]) if "to" in attributes else inputs[0].dtype
        if kind is not None:
            node.outputs[0].dtype = kind
        graph_of(before).insert_before(before, node)
        return node.outputs[0]


def _dtype(value: ir.Value) -> ir.DataType:
    if value.dtype is not None:
        return value.dtype
    return ir.DataType.FLOAT if value.const_value is None else value.const_value.dtype


def _loser(fill: str, dtype: ir.DataType) -> float:
    """What a removed slot reads as."""
    if fill == "zero":
        return 0.0
    lowest = float(dtype.min)
    return {"-inf": max(LOSES["-inf"], lowest), "lowest": lowest}.get(fill, float(dtype.max))
