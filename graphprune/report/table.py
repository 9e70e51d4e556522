"""A table as a value, drawn by rich on a terminal and as plain aligned text in a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A title, column names (a leading `>` aligns right) and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def plain(table: Table) -> str:
    """Aligned text, the same whatever the width of the window."""
    right = [name.startswith(">") for name in table.columns]
    names = tuple(name.removeprefix(">") for name in table.columns)
    shown = bool(any(names))
    lines = [names, *table.rows] if shown else list(table.rows)
    widths = [max((len(line[at]) for line in lines), default=0) for at in range(len(names))]
    text = [_line(line, widths, right) for line in lines]
    head = [table.title] if table.title else []
    tail = [table.note] if table.note else []
    return "\n".join([*head, *text, *tail])


def _line(cells: Iterable[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        cell.rjust(width) if flush else cell.ljust(width)
        for cell, width, flush in zip(cells, widths, right, strict=True)
    ]
    return ("  " + "  ".join(padded)).rstrip()


def fancy(table: Table) -> RichTable:
    """The same table for a rich console."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = any(name.removeprefix(">") for name in table.columns)
    drawn = RichTable(
        title=Text(table.title) if table.title else None,
        title_justify="left",
        title_style="bold",
        caption=Text(table.note) if table.note else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=shown,
    )
    for name in table.columns:
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        drawn.add_column(name.removeprefix(">"), justify=justify, overflow="fold")
    for row in table.rows:
        # Text, not str: a node may be named "[red]", and that is a name, not markup.
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
