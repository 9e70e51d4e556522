"""What lowering did, as a table."""

from __future__ import annotations

from graphprune.ir.names import count, escape
from graphprune.pipeline.report import LoweringReport
from graphprune.report import numbers
from graphprune.report.table import Table

UNMEASURABLE = 5e-4
"""Milliseconds below which nothing is foreseen."""


def lowering(found: LoweringReport | None, alone: bool = False) -> tuple[Table, ...]:
    """Each rule with how often it was used and what it is foreseen to save; nothing where nothing was.

    Args:
        found: what was done.
        alone: whether nothing else was, so that no rule is worth a line, too.
    """
    if found is None or not (found.uses or found.taken_back or alone):
        return ()
    if not found.uses:
        line = "no rule fits: the graph is written as it was read, in normal form"
        return (Table("Lowered for ONNX Runtime", ("",), ((line,),)),)
    rows = tuple((escape(use.rule), str(use.count), _saved(use.saved_ms)) for use in found.uses)
    nodes = f"{count(found.nodes_before, 'node')} became {found.nodes_after}"
    nodes += f" ({found.target}, table {found.table})"
    if found.opset_after != found.opset_before:
        nodes += f"\nopset {found.opset_before} became {found.opset_after}, which what runs it has to read"
    verdict = "proved equal to the graph before" if found.proof.ok else "NOT proved equal to the graph before"
    rounding = f"rounding {found.proof.error:.2g}, bound {found.proof.tolerance:.0e}"
    note = "\n".join([nodes, f"{verdict} ({rounding})", *map(escape, found.proof.details)])
    return (Table("Lowered for ONNX Runtime", ("rule", ">times", ">foreseen"), rows, note),)


def _saved(milliseconds: float) -> str:
    return "" if milliseconds < UNMEASURABLE else f"-{numbers.milliseconds(milliseconds)}"
