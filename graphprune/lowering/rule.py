"""What a rule is: a pattern, its replacement, when they are equal, and how equal they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

if TYPE_CHECKING:
    from graphprune.lowering.scene import Scene, Writer

Exactness = Literal["bits", "rounding"]
"""`bits`: the same arithmetic, or none. `rounding`: equal in real numbers, alike at NaN and infinities."""
FLOATS = frozenset([ir.DataType.FLOAT, ir.DataType.FLOAT16])
REALS = FLOATS | {ir.DataType.DOUBLE}
SINGLES = frozenset([ir.DataType.FLOAT])


@dataclass(frozen=True)
class Rewrite:
    """A pattern that was found.

    Attributes:
        nodes: all that go, the one whose result is replaced last; nothing else reads what the others make.
        build: writes the replacement and returns its result.
        weights: constants whose content becomes part of a new one: not shared, not masked.
    """

    nodes: tuple[ir.Node, ...]
    build: Callable[[Writer], ir.Value]
    weights: tuple[ir.Value, ...] = ()


Find = Callable[[ir.Node, "Scene"], Rewrite | None]


@dataclass(frozen=True)
class Rule:
    """One kind of rewrite.

    Attributes:
        name: of reports, of the table of what pays, and of `docs/lower.md`.
        roots: operators of the node whose result is replaced.
        pattern: what is found, as a formula.
        replacement: what is written for it.
        condition: when both are equal.
        exactness: how equal.
        find: looks for the pattern behind a node.
        example: body of a graph with the pattern, in ONNX's text form: what it pays is measured on it. `x`
        is the
            input, `y` the result; the weights that it may read are those of `tools/lower_table`.
        opset: of the example.
        needs: the opset from which on the operators of the replacement exist.
        types: of what is computed with.
    """

    name: str
    roots: tuple[str, ...]
    pattern: str
    replacement: str
    condition: str
    exactness: Exactness
    find: Find = field(repr=False)
    example: str = field(repr=False)
    opset: int = 14
    needs: int = 0
    types: frozenset[ir.DataType] = field(default=FLOATS, repr=False)
