"""How operators run in torch: one file per family; nothing that works without torch imports this.

A function takes the `Call` (attributes as plain values) and the node's inputs, None where one is left out,
and returns one result or several. It is differentiable in every floating input unless its meaning is a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphprune.ops import BY_OP
from graphprune.ops.torch import (
    attention,
    blocks,
    classical,
    control,
    elementwise,
    experts,
    fused,
    linear,
    norm,
    quantised,
    recurrent,
    reduce,
    resample,
    reshape,
    select,
)
from graphprune.ops.torch.absent import ABSENT, NOT_HERE
from graphprune.ops.torch.call import UnsupportedError

FAMILIES = (
    elementwise,
    linear,
    norm,
    reduce,
    resample,
    reshape,
    select,
    recurrent,
    attention,
    quantised,
    blocks,
    fused,
    experts,
    control,
    classical,
)


@dataclass(frozen=True)
class Row:
    """An operator in torch.

    Attributes:
        run: computes its results.
        host: inputs that are read as plain numbers, and so stay on the CPU.
    """

    run: Callable[..., object]
    host: tuple[int, ...]


TABLE = {op: Row(run, family.HOST.get(op, ())) for family in FAMILIES for op, run in family.ROWS.items()}


def row_of(operator: str, name: str) -> Row:
    """How a node runs in torch.

    Raises:
        UnsupportedError: it does not; says why, and whether it may be treated as a constant.
    """
    if operator in TABLE:
        return TABLE[operator]
    absent = ABSENT.get(operator)
    if absent is not None:
        raise UnsupportedError(operator, name, absent.why, absent.constant)
    why = NOT_HERE if operator in BY_OP else "no such operator is known"
    raise UnsupportedError(operator, name, why, constant=False)
