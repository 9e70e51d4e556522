"""Lists of passes and the description of one, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from graphprune.ir.names import escape
from graphprune.pipeline.catalogue import PassHelp, PassLine
from graphprune.report.table import Table


def listing(lines: Sequence[PassLine]) -> Table:
    """Every installed pass in one line."""
    rows = tuple((line.name, escape(line.summary or line.fault)) for line in lines)
    return Table("", ("pass", "what it does"), rows)


def pass_tables(described: PassHelp) -> tuple[Table, ...]:
    """A pass: its text, then a table of its arguments."""
    text = Table(described.name, ("",), tuple((escape(line),) for line in described.text.splitlines()))
    if not described.arguments:
        return (text,)
    rows = tuple((item.name, item.default, item.type, escape(item.help)) for item in described.arguments)
    return (text, Table("Arguments", ("name", "default", "value", "meaning"), rows))
