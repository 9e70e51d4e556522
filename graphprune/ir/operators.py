"""What ir asks of operators: it is handed the answers (records of `graphprune.ops`), and knows none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import onnx_ir as ir

from graphprune.ir.shape_data import Data

Size = tuple[int, int]
Shape = tuple[Size, ...]

ONE: Size = (1, 1)


class UnknownShapeError(Exception):
    """A shape that a rule needs is not known."""


class Attributes:
    """A node whose attributes and optional inputs are asked for."""

    def __init__(self, node: ir.Node) -> None:
        self.node = node

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def kind(self, position: int) -> ir.DataType | None:
        """The element type of an input, None where it is not given or not known."""
        value = self.node.inputs[position] if position < len(self.node.inputs) else None
        return None if value is None else value.dtype

    def number(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(name, default)

    def numbers(self, name: str) -> Sequence[int]:
        """A list of integers, empty where it is not given."""
        return self.node.attributes.get_ints(name, ())

    def text(self, name: str, default: str = "") -> str:
        """A text attribute."""
        return self.node.attributes.get_string(name, default)


class Sized(Attributes):
    """A node whose shape is asked for.

    Args:
        node: the node.
        shapes: what is known of values.
        data: elements of small values.

    Attributes:
        clashes: sizes that are to be equal, and are not.
    """

    def __init__(
        self, node: ir.Node, shapes: Mapping[ir.Value, Shape | None], data: Mapping[ir.Value, Data]
    ) -> None:
        super().__init__(node)
        self._shapes, self._data = shapes, data
        self.clashes: list[list[Size]] = []

    def input(self, position: int) -> Shape:
        """Sizes of an input.

        Raises:
            UnknownShapeError: it is missing, or its rank is not known.
        """
        value = self.node.inputs[position] if position < len(self.node.inputs) else None
        shape = None if value is None else self._shapes.get(value)
        if shape is None:
            raise UnknownShapeError
        return shape

    def inputs(self) -> list[Shape]:
        """Sizes of all inputs that are given.

        Raises:
            UnknownShapeError: the rank of one is not known.
        """
        return [self.input(position) for position in range(len(self.node.inputs)) if self.has(position)]

    def elements(self, position: int) -> list[Size] | None:
        """A list of integers at both points; None where it is not known."""
        value = self.node.inputs[position] if self.has(position) else None
        found = None if value is None else self._data.get(value)
        if found is None or found.a.dtype.name != "int64" or found.a.ndim != 1:
            return None
        return list(zip(found.a.tolist(), found.b.tolist(), strict=True))

    def clash(self, sizes: Iterable[Size]) -> None:
        """Sizes that the operator needs to be equal."""
        self.clashes.append(sorted(sizes))


ShapeRule = Callable[[Sized], Sequence[Shape | None] | None]
"""Shapes of the outputs, as many as are known; None where this form is left to the onnx package."""
TypeRule = Callable[[Attributes, int], ir.DataType | None]
"""The element type of an output."""
Pairs = Iterable[tuple[Size, Size]]
AlikeRule = Callable[[Sized], Pairs]
"""Sizes that must be equal for the node to run: what a weight says about the data that meets it."""


def follows(position: int) -> TypeRule:
    """Outputs have the element type of an input."""
    return lambda at, output: at.kind(position)


FIRST = follows(0)


@dataclass(frozen=True)
class Shaping:
    """How shapes and element types of results follow from the inputs.

    Attributes:
        shape: the shapes; None leaves them to the onnx package.
        kind: the element types; None leaves them to the onnx package, also where it cannot tell the shapes.
        alike: sizes that must be equal, where its weight does not say it.
        axes: what an axis of the result is: "slotwise", that of the inputs; "joined", as well, but for one of
            them; "windows", so many steps of a window that two sizes may become one: 41 and 43 are both 11
            after two strides, 48 is 12.
    """

    shape: ShapeRule | None = None
    kind: TypeRule | None = FIRST
    alike: AlikeRule | None = None
    axes: Literal["slotwise", "joined", "windows"] | None = None


class Held(NamedTuple):
    """An input that holds data, of an operator on codes: its others are scales, zero points and indices.

    Attributes:
        position: of the input.
        scales: inputs whose product is the scale; empty where it is multiplied in behind the node, None where
            the data are floats or their scale is of no use.
        zero: input that holds the zero point; None where it is zero.
        axis: of the data, along which scales and zero points may differ.
        bits: attribute that says of how many bits (else 4) the numbers are that share a byte; None where
            every number has an element of its own.
    """

    position: int
    scales: tuple[int, ...] | None = None
    zero: int | None = None
    axis: int = -1
    bits: str | None = None


class Operator(Protocol):
    """An operator, as ir needs to know it."""

    @property
    def alike(self) -> AlikeRule | None:
        """Sizes that must be equal."""

    @property
    def shaping(self) -> Shaping | None:
        """How its shapes follow; None leaves all of it to the onnx package."""

    @property
    def held(self) -> tuple[Held, ...]:
        """Inputs that hold data, of an operator on codes; empty for all others."""


Operators = Callable[[ir.Node], Operator | None]
"""The operators that are known, by a node of theirs."""
