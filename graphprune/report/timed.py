"""Where a model's time goes, as tables."""

from __future__ import annotations

from graphprune.ir.names import count, escape
from graphprune.pipeline.timed import NodeLine, Times
from graphprune.report import numbers
from graphprune.report.table import Table

SHOWN = 10


def tables(times: Times) -> tuple[Table, ...]:
    """Kinds of work, the dearest nodes outside contractions, and what stands out."""
    threads = count(times.threads, "thread")
    outside = _percent(times.outside)
    title = f"Time: {numbers.milliseconds(times.ms)} a run, {threads}; {outside} outside contractions"
    works = tuple(
        (line.work, str(line.nodes), _percent(line.share), numbers.milliseconds(line.ms))
        for line in times.works
    )
    others = [node for node in times.nodes if node.work != "contractions"]
    shown = [
        Table(title, ("work", ">nodes", ">share", ">time"), works, "\n".join(map(escape, times.remarks)))
    ]
    if others:
        columns = ("node", "operator", ">share", ">time", "to", "made of")
        rows = tuple(map(_row, sorted(others, key=lambda node: -node.share)[:SHOWN]))
        shown.append(Table("Dearest nodes outside contractions", columns, rows))
    return tuple(shown)


def _row(node: NodeLine) -> tuple[str, ...]:
    made = [name for name in node.sources if name != node.name]
    more = f" and {len(made) - 2} more" if len(made) > 2 else ""
    return (
        escape(node.name),
        escape(node.operator.rpartition(":")[2]),
        _percent(node.share),
        numbers.milliseconds(node.ms),
        "x".join(map(str, node.shape)),
        ", ".join(map(escape, made[:2])) + more,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
