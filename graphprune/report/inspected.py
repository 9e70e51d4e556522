"""The result of `inspect` as tables."""

from __future__ import annotations

from graphprune.ir.names import count, escape
from graphprune.pipeline.inspection import GroupLine, Inspection, Port
from graphprune.report import numbers, sizes, timed
from graphprune.report.table import Table

LONGEST = 40
"""Characters of a dimension that is written out."""


def tables(result: Inspection) -> tuple[Table, ...]:
    """Totals, operators, and groups: first those that may shrink, then the pinned ones with the reason."""
    free = tuple(_free(group) for group in result.groups if not group.pin)
    pinned = tuple(_pinned(group) for group in result.groups if group.pin)
    columns = ("group", ">width", ">params", ">MACs", ">slices")
    shown = [_totals(result), _operators(result)]
    note = "" if free else "nothing in this model can be pruned"
    shown += timed.tables(result.times) if result.times else ()
    shown.append(Table("Groups that may shrink", columns, free, note))
    if pinned:
        shown.append(Table("Pinned groups", ("group", ">width", "why", "node", "to unblock"), pinned))
    return tuple(shown)


def _totals(result: Inspection) -> Table:
    rows = [
        *([("file", numbers.short(result.file_bytes, "B"))] if result.file_bytes else []),
        ("opset", f"{result.opset} (IR {result.ir_version})"),
        ("producer", escape(result.producer) or "unknown"),
        *_origin(result),
        ("params", numbers.short(result.size.params)),
        ("MACs", numbers.short(result.size.macs)),
        *(("input", _port(port)) for port in result.inputs),
        *(("output", _port(port)) for port in result.outputs),
    ]
    notes = (sizes.assumed(result.size.assumed), *map(escape, result.notes))
    return Table(escape(result.source), ("", ""), tuple(rows), "\n".join(filter(None, notes)))


def _origin(result: Inspection) -> list[tuple[str, str]]:
    """What graphprune said in the file about where it comes from."""
    if result.origin is None:
        return []
    by = f"graphprune {escape(result.origin.version)}"
    passes = escape(result.origin.pipeline)
    return [("made by", f"{by}: {passes}" if passes else by), ("made of", escape(result.origin.source))]


def _port(port: Port) -> str:
    shape = "of unknown rank" if port.shape is None else "x".join(map(_dim, port.shape)) or "scalar"
    return f"{escape(port.name)}: {port.type} {shape}"


def _dim(dim: object) -> str:
    """A size, a name, or a formula of names; exporters write some of hundreds of characters."""
    text = escape(str(dim))
    return text if len(text) <= LONGEST else "(...)"


def _operators(result: Inspection) -> Table:
    rows = tuple((escape(name), str(count)) for name, count in result.operators.items())
    return Table(count(result.nodes, "node"), ("operator", ">count"), rows)


def _free(group: GroupLine) -> tuple[str, ...]:
    size = (numbers.short(group.params), numbers.short(group.macs))
    return (escape(group.id), str(group.width), *size, str(group.slices))


def _pinned(group: GroupLine) -> tuple[str, ...]:
    return (
        escape(group.id),
        str(group.width),
        escape(group.pin),
        escape(group.pin_node),
        escape(group.unblock),
    )
