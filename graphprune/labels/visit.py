"""What a rule sees of one node: labels in, constraints and labels out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Ids
from graphprune.ir.nodes import is_constant
from graphprune.ir.operators import Shape
from graphprune.ir.shape_data import Data
from graphprune.labels.algebra import (
    ONE,
    Factor,
    Label,
    Size,
    chain,
    fixed,
    is_fixed,
    prefixes,
    size_of,
)
from graphprune.labels.edits import Edit
from graphprune.labels.state import Axes, Balance, Chain, Contraction, State, Use
from graphprune.labels.stored import chain_of

ROLES = ("source", "sink", "scale", "bias", "stat", "table", "index")
"""What an axis of a weight may be to its node."""


class Visit:
    """One node under analysis. Axis numbers may be negative; labels are combined by the methods here."""

    def __init__(self, state: State, node: ir.Node) -> None:
        self.state, self.node = state, node
        self.options = state.options
        self._inputs = node.inputs
        self._algebra = state.algebra
        self._facts = state.facts
        self._shapes = state.sizes.shapes
        self._read: set[int] = set()

    # -- reading

    @property
    def name(self) -> str:
        """The node's name, or its operator where it has none."""
        return self.node.name or self.node.op_type

    @property
    def count(self) -> int:
        """Number of inputs, missing trailing ones not counted."""
        return len(self._inputs)

    def has(self, position: int) -> bool:
        """Whether the input is there."""
        return position < len(self._inputs) and self._inputs[position] is not None

    def value(self, position: int) -> ir.Value:
        """An input that is there."""
        value = self._inputs[position]
        assert value is not None
        return value

    def is_constant(self, position: int) -> bool:
        """Whether the input is an initializer (its axes can be sliced in place)."""
        return is_constant(self.value(position))

    def shape(self, position: int) -> Shape | None:
        """Sizes of an input; None when unknown."""
        return self._shapes.get(self.value(position))

    def out_shape(self, position: int = 0) -> Shape | None:
        """Sizes of an output; None when unknown."""
        return self._shapes.get(self.node.outputs[position])

    def rank(self, position: int = 0) -> int:
        """Number of axes of an input whose shape is known."""
        shape = self.shape(position)
        assert shape is not None
        return len(shape)

    def data(self, position: int) -> Data | None:
        """The elements of a small integer input, at both points; None when unknown."""
        return self.state.sizes.data.get(self.value(position)) if self.has(position) else None

    def constant(self, position: int) -> Array | None:
        """The value of a constant input of any size; None when it is computed."""
        if not self.has(position) or not self.is_constant(position):
            return None
        tensor = self.value(position).const_value
        return None if tensor is None else np.asarray(tensor.numpy())

    def int_attr(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(name, default)

    def ints_attr(self, name: str) -> tuple[int, ...] | None:
        """A list of integers; None when the node does not have it."""
        return tuple(self.node.attributes[name].as_ints()) if name in self.node.attributes else None

    def float_attr(self, name: str, default: float) -> float:
        """A number."""
        return self.node.attributes.get_float(name, default)

    def str_attr(self, name: str, default: str) -> str:
        """A string."""
        return self.node.attributes.get_string(name, default)

    def opset(self, domain: str = "") -> int:
        """The model's version of an operator set."""
        return self.state.opsets.get(domain, 1)

    # -- labels

    def axes(self, position: int) -> Axes:
        """The labels of an input's axes; an initializer has labels of its own at each use."""
        value = self.value(position)
        self._read.add(position)
        if not is_constant(value):
            return self._facts.values.get(value, ())
        use = Use(self.node, position)
        labels = self.state.uses.get(use)
        if labels is None:
            labels = self.state.uses[use] = self._labels_of(use)
        return labels

    def _labels_of(self, use: Use) -> Axes:
        shape = self.state.sizes.shapes.get(use.value) or ()
        key = self.state.shared.get(use, use)
        if key in self.state.uses:
            return self.state.uses[key]
        return tuple(self._algebra.fresh(size, (key, axis)) for axis, size in enumerate(shape))

    def axis(self, position: int, axis: int) -> Label:
        """The label of one axis of an input."""
        return self.axes(position)[axis]

    def out(self, labels: Sequence[Label], position: int = 0) -> None:
        """Declares the labels of an output; a size that disagrees with shape inference freezes that axis."""
        outputs = self.node.outputs
        if position >= len(outputs):
            return
        value = outputs[position]
        shape = self._shapes.get(value)
        if shape is None or len(shape) != len(labels):
            for label in labels:
                self.fix(label, "its shape is not known here")
            labels = self._unknown(shape)
        self._facts.values[value] = tuple(
            [self._sized(label, size) for label, size in zip(labels, shape or (), strict=True)]
        )

    def _sized(self, label: Label, size: Size) -> Label:
        if size_of(label) == size:
            return label
        self.fix(label, "its size disagrees with shape inference")
        return fixed(size, self._event("its size disagrees with shape inference"))

    def _unknown(self, shape: Shape | None) -> list[Label]:
        why = self._event("its shape is not known here")
        return [fixed(size, why) for size in shape or ()]

    def top(self, position: int = 0) -> list[Label]:
        """Fixed labels for all axes of an output."""
        why = self._event(f"{self.node.op_type} fixes it")
        return [fixed(size, why) for size in self.out_shape(position) or ()]

    def fixed(self, size: Size, reason: str = "") -> Label:
        """A label of the given size that never shrinks."""
        return fixed(size, self._event(reason or f"{self.node.op_type} fixes it"))

    def fresh(self, size: Size, tag: Hashable) -> Label:
        """New atoms that belong to this node and tag."""
        return self._algebra.fresh(size, (self.node, tag))

    def flat(self, label: Label, tag: Hashable) -> Ids | None:
        """One atom per slot; None when the whole axis is fixed."""
        return self._algebra.flat(label, (self.node, tag))

    def flat_or_pinned(self, label: Label, size: int, tag: Hashable) -> Ids:
        """One atom per slot, pinned ones where the axis is fixed."""
        atoms = self._algebra.flat(label, (self.node, tag))
        if atoms is not None:
            return atoms
        why = max((factor.why for factor in label), default=0)
        return self._algebra.pinned(size, (self.node, tag, "pinned"), max(why, 0))

    def fix_atoms(self, atoms: Ids, reason: str) -> None:
        """These slots may not be removed."""
        self.state.atoms.pin(atoms, self._event(reason))

    def fixed_why(self, size: Size, why: int) -> Label:
        """A fixed label for an already known event."""
        return fixed(size, why)

    def normal(self, label: Label) -> Label:
        """The label with every factor that is known to be a product taken apart."""
        return self._algebra.normal(label)

    def refined(self, factors: Label, boundaries: Sequence[Size]) -> Label:
        """Cuts a chain of factors at the boundaries of a divisor chain."""
        return self._algebra.refine(factors, boundaries)

    def refine(self, label: Label, sizes: Sequence[int]) -> Label | None:
        """Factors an axis into sizes (size 1 omitted); freezes it and returns None where it cannot."""
        label = self._algebra.normal(label)
        boundaries: list[Size] = [ONE]
        for size in sizes:
            boundaries.append((boundaries[-1][0] * size, boundaries[-1][1] * size))
        merged = chain(prefixes(label), boundaries)
        if merged is None or size_of(label) != boundaries[-1]:
            self.fix(label, f"cannot be divided as {'x'.join(map(str, sizes))}")
            return None
        return self._algebra.refine(label, merged)

    def between(self, label: Label, start: int, end: int) -> Label:
        """The factors of a refined axis from prefix product `start` to prefix product `end`."""
        out, done = [], 1
        for factor in label:
            if start <= done and done * factor.size[0] <= end and factor.size[0] > 1:
                out.append(factor)
            done *= factor.size[0]
        return tuple(out)

    # -- constraints

    def _event(self, reason: str, unblock: str = "") -> int:
        return self.state.event(reason, self.name, unblock)

    def equal(self, first: Label, second: Label) -> None:
        """Ties two axes slot by slot."""
        self._algebra.equate(
            first, second, self._event(f"{self.node.op_type} ties it to an axis that is fixed")
        )

    def fix(self, label: Label, reason: str, unblock: str = "") -> None:
        """No slot of this axis may be removed."""
        self._algebra.pin(label, self._event(reason, unblock))

    def fix_all(self, reason: str, unblock: str = "") -> None:
        """Freezes every axis of every input and makes all outputs fixed."""
        for position in range(self.count):
            if self.has(position):
                for label in self.axes(position):
                    self.fix(label, reason, unblock)
        for position in range(len(self.node.outputs)):
            why = self._event(reason, unblock)
            shape = self.out_shape(position) or ()
            self._facts.values[self.node.outputs[position]] = tuple(fixed(size, why) for size in shape)

    def balance(self, label: Label, blocks: int) -> None:
        """Requires every one of `blocks` equal blocks of the axis to keep the same number of slots."""
        if not is_fixed(label):
            self._facts.balances.append(Balance(label, blocks, self.node))

    def at_least(self, label: Label, count: int) -> None:
        """Requires that at least `count` slots of the axis are kept."""
        if not is_fixed(label):
            self._facts.floors.append((label, count))

    def tied(self, tag: int) -> bool:
        """Whether balanced selection was found impossible here, so that blocks must be tied instead."""
        return (self.node, tag) in self.state.tied

    def fix_unread(self) -> None:
        """Freezes computed inputs whose labels the rule did not look at: the node reads them whole."""
        for position, value in enumerate(self._inputs):
            if position not in self._read and value is not None:
                for label in self._facts.values.get(value, ()):
                    self.fix(label, f"{self.node.op_type} reads it as a whole")

    def fix_unsaid(self) -> None:
        """Freezes the node where the rule did not say what becomes of one of its results."""
        for value in self.node.outputs:
            if value not in self._facts.values and (value.uses() or value.is_graph_output()):
                self.fix_all(f"the rule of {self.node.op_type} does not say what its results are")
                return

    # -- facts for the rewriter, the scorer and the proof

    def role(self, position: int, axis: int, role: str) -> None:
        """Says what an axis of a weight is to its node: one of ROLES."""
        chain = self._chain(position)
        if chain is not None and chain.axes:
            self._note(position, chain, chain.axes[axis % len(chain.axes)], role)

    def roles(self, position: int, role: str) -> None:
        """The same role for every axis of a weight."""
        chain = self._chain(position)
        if chain is not None:
            for at in chain.axes:
                self._note(position, chain, at, role)

    def _note(self, position: int, chain: Chain, at: int | None, role: str) -> None:
        if role not in ROLES:
            raise ValueError(f"no role {role!r} is known: {', '.join(ROLES)}")
        if at is not None:
            self.state.roles[(chain.use(Use(self.node, position)), at)] = role

    def _chain(self, position: int) -> Chain | None:
        if not self.has(position):
            return None
        value, known = self.value(position), self.state.chains
        if value not in known:
            known[value] = chain_of(value, self._shapes, self.state.step_of)
        return known[value]

    def blocked(self, position: int, axis: int, blocks: int, label: Label) -> None:
        """An axis of an initializer with one block of `label` per block of its axis 0 (grouped Conv)."""
        if not self.is_constant(position):
            return
        use = Use(self.node, position)
        axes = list(self.axes(position))
        axes[axis] = label
        self.state.uses[use] = tuple(axes)
        self.state.blocks[(use, axis)] = blocks
        first = self.state.shared.get(use, use)
        if (first, axis) in self.state.blocks:
            self.equal(label, self.state.uses[first][axis])

    def kernel(self, position: int) -> None:
        """Axes 2 and on of a convolution's weight are kernel positions, never removed."""
        chain = self._chain(position)
        if chain is not None and None not in chain.axes[2:]:
            self.axes(position)
            use = chain.use(Use(self.node, position))
            labels, sizes = list(self.state.uses[use]), self._shapes.get(chain.value) or ()
            for axis in chain.axes[2:]:
                if axis is not None:
                    labels[axis] = self.fixed(sizes[axis])
            self.state.uses[use] = tuple(labels)
        for label in self.axes(position)[2:]:
            self.fix(label, "it is a position of the kernel")

    def contract(self, position: int, axis: int, fill: str = "zero") -> None:
        """This edge's axis is contracted, reduced or normalised: the reference masks removed slots here."""
        self._facts.contractions.append(Contraction(self.node, position, axis % self.rank(position), fill))

    def contract_at(self, node: ir.Node, position: int, axis: int) -> None:
        """As contract, for an edge into another node of the same region."""
        self._facts.contractions.append(Contraction(node, position, axis, "zero"))

    def edit(self, edit: Edit) -> None:
        """Has the rewriter change this node when its labels are cut."""
        self._facts.edits.append(edit)

    def inexact(self, label: Label) -> None:
        """Removing slots of this axis changes the function of this node."""
        self._facts.inexact[self.node] = label

    # -- index-typed values (docs/theory.md#positions)

    def index_of(self, position: int) -> Label | None:
        """The axis that the elements of an integer input are positions on, if known."""
        if not self.has(position) or self.value(position) in self._facts.tables:
            return None
        return self._facts.indices.get(self.value(position))

    def set_index(self, label: Label, position: int = 0) -> None:
        """Says that the elements of an output are positions on this axis."""
        self._facts.indices[self.node.outputs[position]] = label


def factor_of(atoms: Ids) -> Label:
    """The label of an axis with the given atom per slot."""
    return () if len(atoms) == 1 else (Factor((len(atoms), len(atoms)), atoms),)
