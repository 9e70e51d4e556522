"""Multiply-adds of one node at concrete sizes: what the counters of all families share.

Counted are products with weights and activations, as the operator's definition computes them: a causal mask
earns no credit, with a cache the keys are past + current, a mixture counts the experts that a token takes.
Bias, activation and interpolation are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import onnx_ir as ir

from graphprune.ir.operators import Attributes
from graphprune.ir.shapes import Sizes

Dims = tuple[int, ...]


class Place(NamedTuple):
    """Slots start to stop of an axis of a node's input or output; `inner`: of heads x dims, the dims."""

    side: str
    position: int
    axis: int
    start: int = 0
    stop: int | None = None
    inner: bool = False

    @classmethod
    def input(cls, position: int, axis: int, start: int = 0, stop: int | None = None) -> Place:
        """Of an input."""
        return cls("in", position, axis, start, stop)

    @classmethod
    def output(cls, axis: int) -> Place:
        """Of the first output."""
        return cls("out", 0, axis)


@dataclass(frozen=True)
class Term:
    """A count of multiply-adds that is proportional to the kept share of each of these places."""

    macs: int
    places: tuple[Place, ...]


class UnknownSizeError(Exception):
    """A size that the count needs is not known."""


class At(Attributes):
    """A node at concrete sizes.

    Args:
        node: the node.
        sizes: of the whole model, inferred from concrete input shapes.
    """

    def __init__(self, node: ir.Node, sizes: Sizes) -> None:
        super().__init__(node)
        self._shapes = sizes.shapes

    def dims(self, side: str, position: int) -> Dims:
        """Sizes of an input ("in") or output ("out").

        Raises:
            UnknownSizeError: it is missing, or one of its sizes is not known or depends on data.
        """
        values = self.node.inputs if side == "in" else self.node.outputs
        value = values[position] if position < len(values) else None
        shape = None if value is None else self._shapes.get(value)
        if shape is None or any(a != b or a < 0 for a, b in shape):
            raise UnknownSizeError
        return tuple(size for size, _ in shape)

    def input(self, position: int) -> Dims:
        """Sizes of an input."""
        return self.dims("in", position)

    def output(self, position: int = 0) -> Dims:
        """Sizes of an output."""
        return self.dims("out", position)


Counter = Callable[[At], list[Term]]


def conv(weight: int = 1, channel: int = 1) -> Counter:
    """Every element of the output takes a window of the input channels of its group."""

    def count(at: At) -> list[Term]:
        last = at.text("layout") == "NHWC" or at.number("channels_last") == 1
        out = at.output()
        axis = len(out) - 1 if last or channel < 0 else channel
        return [Term(prod(out) * prod(at.input(weight)[1:]), (Place.output(axis), Place.input(weight, 1)))]

    return count


def matmul(at: At) -> list[Term]:
    """[.., M, K] by [.., K, N]; transA of the fused forms swaps the last two axes of A."""
    left, out = at.input(0), at.output()
    inner = len(left) - (2 if at.number("transA") and len(left) > 1 else 1)
    places = (*(Place.output(axis) for axis in range(len(out))), Place.input(0, inner))
    return [Term(prod(out) * left[inner], places)]


def gemm(at: At) -> list[Term]:
    """A' [M, K] by B' [K, N]."""
    inner = 0 if at.number("transA") else 1
    places = (Place.output(0), Place.output(1), Place.input(0, inner))
    return [Term(prod(at.output()) * at.input(0)[inner], places)]


def unknown(at: At) -> list[Term]:
    """An operator that multiplies, of which nobody counted how much."""
    raise UnknownSizeError


def terms(counter: Counter | None, node: ir.Node, sizes: Sizes) -> list[Term] | None:
    """The multiply-adds of a node; None where they are not known."""
    if counter is None:
        return []
    try:
        return counter(At(node, sizes))
    except (UnknownSizeError, IndexError, ValueError, ZeroDivisionError):
        return None
