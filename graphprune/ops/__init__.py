"""The transfer table: one row per operator family (docs/theory.md#transfer-rules)."""

from __future__ import annotations

import importlib

from graphprune.ir.domains import is_default
from graphprune.ops.record import Record

MODULES = (
    "elementwise",
    "linear",
    "norm",
    "reduce",
    "reshape",
    "select",
    "recurrent",
    "attention",
    "packed_attention",
    "rotary",
    "linear_attention",
    "quantised",
    "blocks",
    "fused",
    "experts",
    "control",
)
TABLE: tuple[Record, ...] = tuple(
    row for module in MODULES for row in importlib.import_module(f"{__name__}.{module}").ROWS
)
BY_OP: dict[str, Record] = {op: row for row in TABLE for op in row.ops}


def record_for(domain: str, op_type: str) -> Record | None:
    """The row of an operator, None when it is unknown."""
    plain = is_default(domain)
    return BY_OP.get(op_type if plain else f"{domain}:{op_type}")
