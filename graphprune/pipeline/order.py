"""In which order passes may run: what a later one would undo comes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from graphprune.errors import ArgumentError
from graphprune.pipeline.passes import ORDER, Pass

_WHY = {
    "normalise": "a normal form is what the others read",
    "structure": "repair of a cut would fill the zeros of a mask",
    "masks": "masks are of the weights that stay",
}


def require_order(passes: Sequence[Pass]) -> None:
    """Refuse passes in another order than ORDER; those that name no turn may run anywhere.

    Raises:
        ArgumentError: naming the two, and the pipeline in order.
    """
    told = [item for item in passes if item.turn is not None]
    for first, then in pairwise(told):
        if _rank(first) > _rank(then):
            problem = f"{then.name} ({then.turn}) cannot run after {first.name} ({first.turn})"
            ordered = ", ".join(map(str, sorted(passes, key=_rank)))
            raise ArgumentError(
                f"{problem}: {_WHY.get(then.turn or '', 'it would be undone')}",
                f"the order is {' → '.join(ORDER)}: {ordered}",
            )


def _rank(item: Pass) -> int:
    return ORDER.index(item.turn) if item.turn is not None else 0
