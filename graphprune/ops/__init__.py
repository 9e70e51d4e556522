"""The transfer table: one row per operator family (docs/theory.md#transfer-rules)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir

from graphprune.ir.nodes import operator_of
from graphprune.ops.door import described
from graphprune.ops.record import Layer, Record
from graphprune.ops.traits import Trait

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


def like(op: str, name: str, *, body: str = "", library: str | Callable[[], str] = "") -> Record:
    """The row of somebody else's operator `name`, "domain:Name", that treats axes as one of ours does.

    Raises:
        ValueError: there is no row of `op`.
    """
    if op not in BY_OP:
        raise ValueError(f"no operator '{op}' is known")
    return replace(BY_OP[op], ops=(name,), body=body, library=library)


def record_of(node: ir.Node) -> Record | None:
    """The row of a node's operator, ours or another package's; None when it is unknown."""
    name = operator_of(node)
    return BY_OP.get(name) or (described(name) if ":" in name else None)


def layer_of(node: ir.Node) -> Layer | None:
    """Where a node has its weight; None where it has none, or several."""
    row = record_of(node)
    return None if row is None else row.layer


def has(node: ir.Node, *traits: Trait) -> bool:
    """Whether a node's operator has any of these traits; an unknown one has none."""
    row = record_of(node)
    return row is not None and not row.traits.isdisjoint(traits)


def contracts(node: ir.Node) -> bool:
    """Whether removed slots contribute nothing to the sums of products that a node computes."""
    row = record_of(node)
    return row is not None and row.exactness == "contraction"


def multiplies(node: ir.Node) -> bool:
    """Whether a node takes multiply-adds."""
    row = record_of(node)
    return row is not None and row.macs is not None
