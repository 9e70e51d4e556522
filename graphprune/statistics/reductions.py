"""Sums that a model computes beside its own work, so that activations never leave ONNX Runtime.

Positions are summed in float32 by the model, samples in float64 here: a float32 sum stays short, and the mean
per sample is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Bools, Doubles
from graphprune.ir.build import initializer, new_node
from graphprune.statistics.measures import Angle, Vector
from graphprune.statistics.stored import Grid

SAMPLES, MASK = "graphprune/samples", "graphprune/mask"
"""Inputs that reductions add to a model: number of samples, and 1 for tokens and 0 for padding [b, t, 1]."""


class Summing(NamedTuple):
    """An operator that sums, and since which opset its axes are an input."""

    name: str
    since: int = 18


SUM = Summing("ReduceSum", 13)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a value has its channels.

    Attributes:
        name: of the value.
        rank: number of axes.
        axis: of the channels, from the front.
        channels: their number, None if it is not static.
        flat: the first of two axes is (sample, position) in one.
        masked: the axes before the channels are those of the padding mask.
        reads: what its integers stand for; None where it holds floats.
    """

    name: str
    rank: int
    axis: int
    channels: int | None
    flat: bool
    masked: bool
    reads: Grid | None = None

    @property
    def split(self) -> bool:
        """Whether samples and positions are parted before summing."""
        return self.flat and self.channels is not None


class Reduction(Protocol):
    """Outputs to add to a model, and the measure that follows from them."""

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that are reduced."""

    def append(self, write: Writer) -> None:
        """Add the nodes."""


class Writer:
    """Appends nodes to a graph.

    Args:
        graph: grows.
        values: of the graph, by name.
        opset: of the standard operators.
    """

    def __init__(self, graph: ir.Graph, values: Mapping[str, ir.Value], opset: int) -> None:
        self.graph, self.values, self.opset = graph, values, opset
        self.outputs: list[str] = []
        self._inputs: dict[str, ir.Value] = {}
        self._behind: ir.Node | None = None

    def behind(self, names: Sequence[str]) -> None:
        """New nodes go right behind those that make these values.

        ONNX Runtime prefers nodes that come early in the file, and so frees a value before it makes the next.
        """
        producers = {self.values[name].producer() for name in names}
        self._behind = next((node for node in reversed(self.graph) if node in producers), None)

    def node(
        self, kind: str, inputs: Sequence[ir.Value], name: str = "", **attributes: int | Sequence[int]
    ) -> ir.Value:
        """The only output of a new node."""
        node = new_node(kind, inputs, name or f"graphprune/value/{len(self.graph)}", attributes)
        if self._behind is None:
            self.graph.insert_before(self.graph[0], node) if len(self.graph) else self.graph.append(node)
        else:
            self.graph.insert_after(self._behind, node)
        self._behind = node
        return node.outputs[0]

    def sum(self, value: ir.Value, axes: Sequence[int], name: str, first: Summing = SUM) -> None:
        """An output: the sum over these axes, which go; without axes the value itself."""
        if not axes:
            self.output("Identity", value, name)
            return
        if len(axes) > 1:  # one axis after another: more exact in float32, and no slower
            value = self._reduced(first, value, axes[-1:])
            first, axes = SUM, axes[:-1]
        self._reduced(first, value, axes, name)
        self.outputs.append(name)

    def _reduced(self, kind: Summing, value: ir.Value, axes: Sequence[int], name: str = "") -> ir.Value:
        if self.opset >= kind.since:
            return self.node(kind.name, [value, self.constant(np.array(axes, np.int64))], name, keepdims=0)
        return self.node(kind.name, [value], name, keepdims=0, axes=list(axes))

    def output(self, kind: str, value: ir.Value, name: str) -> None:
        """An output: an operator on one value."""
        self.node(kind, [value], name)
        self.outputs.append(name)

    def constant(self, array: Array) -> ir.Value:
        """A constant of the graph."""
        return initializer(self.graph, f"graphprune/constant/{len(self.graph.initializers)}", array)

    def input(self, name: str, dtype: ir.DataType, rank: int) -> ir.Value:
        """An input that only reductions read."""
        if name not in self._inputs:
            value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([None] * rank))
            self.graph.inputs.append(value)
            self._inputs[name] = value
        return self._inputs[name]

    def tokens(self, place: Place) -> ir.Value:
        """The value in float, samples and positions parted, padding zero."""
        value = self.values[place.name]
        if value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            value = self.node("Cast", [value], to=ir.DataType.FLOAT.value)
        if place.reads is not None:
            value = self.node("Sub", [value, self.constant(place.reads.zero)])
            value = self.node("Mul", [value, self.constant(place.reads.scale)])
        double = value.dtype == ir.DataType.DOUBLE
        if place.split:
            rest = self.constant(np.array([-1, place.channels], np.int64))
            shape = self.node("Concat", [self.input(SAMPLES, ir.DataType.INT64, 1), rest], axis=0)
            value = self.node("Reshape", [value, shape])
        if place.masked:
            mask = self.input(MASK, ir.DataType.FLOAT, 3)
            if double:
                mask = self.node("Cast", [mask], to=ir.DataType.DOUBLE.value)
            value = self.node("Mul", [value, mask])
        return value


@dataclass(frozen=True, eq=False)
class VectorReduction:
    """The sums of a Vector."""

    place: Place

    @property
    def values(self) -> tuple[str, ...]:
        """The one value."""
        return (self.place.name,)

    def append(self, write: Writer) -> None:
        """Sums over positions, and the shape for the count."""
        place = self.place
        tokens = write.tokens(place)
        rank, axis = (3, 2) if place.split else (place.rank, place.axis)
        axes = [a for a in range(0 if axis == 0 or rank == 2 else 1, rank) if a != axis]
        write.output("Shape", write.values[place.name], self._name("shape"))
        write.sum(tokens, axes, self._name("sum"))
        if axes and axis < min(axes):
            # Sums of neighbours need no copy of the value; in other orders these two kernels are slow.
            write.sum(tokens, axes, self._name("squares"), Summing("ReduceSumSquare"))
            write.sum(tokens, axes, self._name("absolute"), Summing("ReduceL1"))
        else:
            write.sum(write.node("Mul", [tokens, tokens]), axes, self._name("squares"))
            write.sum(write.node("Relu", [tokens]), axes, self._name("positive"))
        nonzero = write.node("Cast", [write.node("Cast", [tokens], to=ir.DataType.BOOL.value)], to=1)
        write.sum(nonzero, axes, self._name("nonzero"))

    def read(self, found: Mapping[str, Array], samples: int, mask: Bools | None) -> Vector:
        """The measure of one batch."""
        sums = {
            part: self._per_sample(found[self._name(part)], samples)
            for part in ("sum", "squares", "positive", "absolute", "nonzero")
            if self._name(part) in found
        }
        total, squares, nonzero = sums["sum"], sums["squares"], sums["nonzero"]
        # |x| = 2 max(x, 0) - x
        absolute = sums["absolute"] if "absolute" in sums else 2 * sums["positive"] - total
        elements = prod(found[self._name("shape")].tolist())
        positions = elements / max(1, total.shape[1])
        each = np.full(len(total), positions / max(1, len(total)))
        if mask is not None and self.place.masked:
            each = mask.reshape(len(mask), -1).sum(axis=1).astype(np.float64)
        means = absolute / np.maximum(each, 1.0)[:, None]
        return Vector(
            float(each.sum()),
            total.sum(axis=0),
            squares.sum(axis=0),
            absolute.sum(axis=0),
            each.sum() - nonzero.sum(axis=0),
            (means**2).sum(axis=0),
        )

    def _per_sample(self, array: Array, samples: int) -> Doubles:
        wide = array.astype(np.float64)
        if wide.ndim == 1:
            return wide[None]
        whole = len(wide) % samples == 0 and len(wide) > samples  # windows of one sample follow each other
        return wide.reshape(samples, -1, wide.shape[1]).sum(axis=1) if whole else wide

    def _name(self, part: str) -> str:
        return f"graphprune/{part}/{self.place.name}"


@dataclass(frozen=True, eq=False)
class AngleReduction:
    """Products of two values token by token."""

    one: Place
    two: Place

    @property
    def values(self) -> tuple[str, ...]:
        """Both."""
        return (self.one.name, self.two.name)

    def append(self, write: Writer) -> None:
        """One number per token and product."""
        values = [write.values[place.name] for place in (self.one, self.two)]
        wide = [
            v
            if v.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
            else write.node("Cast", [v], to=ir.DataType.FLOAT.value)
            for v in values
        ]
        for part, (a, b) in (("ab", (0, 1)), ("aa", (0, 0)), ("bb", (1, 1))):
            write.sum(write.node("Mul", [wide[a], wide[b]]), [self.one.axis], self._name(part))

    def read(self, found: Mapping[str, Array], mask: Bools | None) -> Angle:
        """The measure of one batch."""
        ab, aa, bb = (found[self._name(part)].astype(np.float64).ravel() for part in ("ab", "aa", "bb"))
        if mask is not None and self.one.masked:
            ab, aa, bb = (x[mask.ravel()] for x in (ab, aa, bb))
        norms = np.maximum(np.sqrt(aa * bb), np.finfo(np.float64).tiny)
        cos = np.clip(ab / norms, -1.0, 1.0)
        return Angle(float(len(cos)), float(np.arccos(cos).sum() / np.pi), float((1 - cos).sum()))

    def _name(self, part: str) -> str:
        return f"graphprune/{part}/{self.one.name}/{self.two.name}"


def append(
    graph: ir.Graph, values: Mapping[str, ir.Value], reductions: Sequence[Reduction], opset: int
) -> list[str]:
    """Add reductions to a graph; the names of their outputs."""
    write = Writer(graph, values, opset)
    for item in reductions:
        write.behind(item.values)
        item.append(write)
    return write.outputs
