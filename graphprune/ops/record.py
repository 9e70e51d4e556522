"""One row of the transfer table: an operator family, its label rule, and what the rewriter edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from graphprune.labels.visit import Visit
from graphprune.ops.counting import Counter

Exactness = Literal["parallel", "contraction", "structural", "reduction", "count", "normaliser", "frozen"]


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
    """

    ops: tuple[str, ...]
    transfer: Callable[[Visit], None]
    labels: str
    exactness: Exactness
    edits: str = ""
    macs: Counter | None = None

    def __post_init__(self) -> None:
        if self.exactness == "contraction" and self.macs is None:
            raise TypeError(f"the row of {', '.join(self.ops)} is a contraction and counts no multiply-adds")


def ops(names: str, domain: str = "") -> tuple[str, ...]:
    """Splits a list of operator names, with an optional domain for all of them."""
    return tuple(f"{domain}:{name}" if domain else name for name in names.split())
