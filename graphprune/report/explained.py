"""The result of `explain` as tables."""

from __future__ import annotations

from graphprune.ir.names import escape
from graphprune.pipeline.explanation import Explanation, Step
from graphprune.report.table import Table


def tables(results: tuple[Explanation, ...]) -> tuple[Table, ...]:
    """For each group: whether it may shrink, the path that was asked for, and everything it owns."""
    return tuple(table for result in results for table in _group(result))


def _group(result: Explanation) -> list[Table]:
    rows = [("width", str(result.width))]
    rows += [("pinned", escape(result.pin))] if result.pin else [("pinned", "no: it may shrink")]
    rows += [("by", escape(result.pin_node))] if result.pin_node else []
    rows += [("to unblock", escape(result.unblock))] if result.unblock else []
    shown = [Table(f"Group {escape(result.group)}", ("", ""), tuple(rows), escape(result.note))]
    if result.path:
        why = "How it reaches the node that pins it" if result.pin else "How they are coupled"
        shown.append(
            Table(why, ("node", "operator", "through", "axes"), tuple(_step(step) for step in result.path))
        )
    slices = tuple(
        (escape(s.initializer), str(s.axis), s.role, str(s.slots), f"{escape(s.node)} ({s.operator})")
        for s in result.slices
    )
    shown.append(
        Table("What one cut removes slots of", ("initializer", ">axis", "role", ">slots", "at"), slices)
    )
    return shown


def _step(step: Step) -> tuple[str, ...]:
    return (escape(step.node), step.operator, escape(step.value), ", ".join(map(str, step.axes)))
