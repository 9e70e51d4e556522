"""One row of the transfer table: an operator family, its label rule, and what the rewriter edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from graphprune.ir.operators import Shaping
from graphprune.labels.visit import Visit
from graphprune.ops.counting import Counter
from graphprune.ops.traits import LAYERS, Trait

Exactness = Literal["parallel", "contraction", "structural", "reduction", "count", "normaliser", "frozen"]


class Indices(NamedTuple):
    """An input whose elements are places along an axis of another input, the table.

    Attributes:
        position: of the input.
        table: position of the table; of OneHot, of the number of slots.
        axis: of the table; None where the attribute `axis` says it.
    """

    position: int
    table: int
    axis: int | None = None


@dataclass(frozen=True)
class Record:
    """How one operator family treats labels.

    Attributes:
        ops: operator names; "domain:Name" outside the default domain.
        transfer: the label rule.
        labels: the rule in words.
        exactness: parallel, contraction and structural are exact by construction; reduction is exact because
            removed slots are masked at its input; count after correcting n; a normaliser by compensation
            (docs/theory.md#exactness).
        edits: what the rewriter changes besides slicing initializers.
        macs: counts the multiply-adds; None where there are none to speak of. A contraction has one.
        shaping: how shapes and types of the results follow; None leaves that to the onnx package.
        caches: (past input, present output) of what a decoder keeps from one token to the next.
        indices: which inputs hold places in a table.
        traits: what the operators are, for all who read a graph.
    """

    ops: tuple[str, ...]
    transfer: Callable[[Visit], None]
    labels: str
    exactness: Exactness
    edits: str = ""
    macs: Counter | None = None
    shaping: Shaping | None = None
    caches: tuple[tuple[int, int], ...] = ()
    indices: tuple[Indices, ...] = ()
    traits: frozenset[Trait] = frozenset()

    def __post_init__(self) -> None:
        layers = self.traits & LAYERS
        if (self.exactness == "contraction" or layers) and self.macs is None:
            raise TypeError(f"the row of {', '.join(self.ops)} is a contraction and counts no multiply-adds")


def ops(names: str, domain: str = "") -> tuple[str, ...]:
    """Splits a list of operator names, with an optional domain for all of them."""
    return tuple(f"{domain}:{name}" if domain else name for name in names.split())


def traits(*names: Trait) -> frozenset[Trait]:
    """The traits of a record."""
    return frozenset(names)
