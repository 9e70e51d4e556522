"""In which order passes may run: what a later one would undo comes first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from graphprune.errors import ArgumentError
from graphprune.pipeline.passes import ORDER, Pass, Turn

_WHY = {
    "normalise": "a normal form is what the others read",
    "structure": "repair of a cut would fill the zeros of a mask",
    "masks": "masks are of the weights that stay",
}
_CUTS: frozenset[Turn] = frozenset(["structure", "masks"])
"""What may follow a recovery: cut a little, recover a little."""


def require_order(passes: Sequence[Pass]) -> None:
    """Refuse passes in another order than ORDER; those that name no turn may run anywhere.

    Between cuts there may be recoveries.

    Raises:
        ArgumentError: naming the two, and the pipeline in order.
    """
    told = [item for item in passes if item.turn is not None]
    cuts = [item for item in told if item.turn != "recover"]
    for first, then in (*pairwise(cuts), *pairwise(told)):
        between = first.turn == "recover" and then.turn in _CUTS
        if _rank(first) > _rank(then) and not between:
            problem = f"{then.name} ({then.turn}) cannot run after {first.name} ({first.turn})"
            ordered = ", ".join(map(str, sorted(passes, key=_rank)))
            raise ArgumentError(
                f"{problem}: {_WHY.get(then.turn or '', 'it would be undone')}",
                f"the order is {' → '.join(ORDER)}: {ordered}",
            )


def _rank(item: Pass) -> int:
    return ORDER.index(item.turn) if item.turn is not None else 0
