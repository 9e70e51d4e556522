"""Lists of passes and criteria, and the description of a pass, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphprune.ir.names import escape
from graphprune.pipeline.catalogue import PassHelp, PassLine
from graphprune.report.table import Table

COLUMNS = {
    "passes": ("pass", "what it does"),
    "criteria": ("criterion", "score of a Unit"),
    "operators": ("operator", "how its axes go together"),
    "others": ("other entry point", "why it is not read"),
}


def listings(found: Mapping[str, Sequence[PassLine]]) -> list[Table]:
    """Everything that is installed in one line each, a table for each kind."""
    return [_listing(*COLUMNS[kind], lines) for kind, lines in found.items() if lines]


def _listing(what: str, says: str, lines: Sequence[PassLine]) -> Table:
    """One line each, and the package that it comes from where that is not ours."""
    rows = tuple((line.name, line.origin, escape(line.summary or line.fault)) for line in lines)
    if any(line.origin for line in lines):
        return Table("", (what, "from", says), rows)
    return Table("", (what, says), tuple((name, words) for name, _, words in rows))


def pass_tables(described: PassHelp) -> tuple[Table, ...]:
    """A pass: its text, then a table of its arguments."""
    text = Table(described.name, ("",), tuple((escape(line),) for line in described.text.splitlines()))
    if not described.arguments:
        return (text,)
    rows = tuple((item.name, item.default, item.type, escape(item.help)) for item in described.arguments)
    return (text, Table("Arguments", ("name", "default", "value", "meaning"), rows))
