"""A sweep as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphprune.ir.names import escape
from graphprune.report.table import Table

if TYPE_CHECKING:
    from graphprune.tuning.sweep import SweepRow, Swept


def tables(found: Swept) -> tuple[Table, ...]:
    """All rows."""
    names = ("model", "recipe", ">seed", ">params", ">MACs", ">bytes", ">drop", ">speed-up", "")
    return (Table("Sweep", names, tuple(map(_row, found.rows))),)


def _row(row: SweepRow) -> tuple[str, ...]:
    shares = (_percent(each) for each in (row.params, row.macs, row.bytes))
    drop = "" if row.drop is None else f"{row.drop:.4f}"
    speedup = "" if row.speedup is None else f"{row.speedup:.2f}x"
    return escape(row.model), escape(row.recipe), str(row.seed), *shares, drop, speedup, escape(row.error)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def brief(found: Swept) -> str:
    """In one line."""
    failed = sum(bool(row.error) for row in found.rows)
    return f"{len(found.rows)} compiles, {failed} came to nothing"
