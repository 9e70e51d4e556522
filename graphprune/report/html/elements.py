"""Pieces of a page as elements, so that nothing in them is ever taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from graphprune.ir.names import escape

Inside = Element | str | None


def tag(name: str, /, *inside: Inside, **attributes: str | None) -> Element:
    """An element; of attributes `class_` is class, `aria_label` is aria-label, and None is left out."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    element = Element(name, {key: escape(value) for key, value in named.items() if value is not None})
    for each in inside:
        if isinstance(each, str):
            _write(element, escape(each))
        elif each is not None:
            element.append(each)
    return element


def _write(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


@dataclass(frozen=True)
class Column:
    """A column of a grid.

    Attributes:
        name: its heading, with the unit.
        number: whether it is aligned right, and sorted by value.
        extra: whether it is left out on a phone.
    """

    name: str
    number: bool = False
    extra: bool = False

    @property
    def classes(self) -> str | None:
        """Of its cells."""
        return " ".join(filter(None, ("number" * self.number, "extra" * self.extra))) or None


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number that it is sorted by where it does not show that alone."""

    shown: Inside
    value: float | None = None


def grid(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell | Inside]],
    noun: str = "",
) -> Element:
    """A table that scrolls by itself.

    Args:
        caption: what it holds, with units.
        columns: the first one names the row.
        rows: one cell per column.
        noun: what its rows are, if they can be sorted and searched.
    """
    heads = (tag("th", each.name, scope="col", class_=each.classes) for each in columns)
    body = tag("tbody", *(_row(columns, row) for row in rows))
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), body)
    if noun:
        table.set("data-noun", noun)
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)


def _row(columns: Sequence[Column], row: Sequence[Cell | Inside]) -> Element:
    cells = (each if isinstance(each, Cell) else Cell(each) for each in row)
    return tag("tr", *(_cell(at, *pair) for at, pair in enumerate(zip(columns, cells, strict=True))))


def _cell(at: int, column: Column, cell: Cell) -> Element:
    value = None if cell.value is None else f"{cell.value:.17g}"
    name, scope = ("td", None) if at else ("th", "row")
    return tag(name, cell.shown, scope=scope, class_=column.classes, data_value=value)


def section(title: str, *inside: Inside, key: str) -> Element:
    """A part of the page under a heading that can be linked to."""
    return tag("section", tag("h2", title, id=key), *inside, aria_labelledby=key)


def lines(texts: Iterable[str], kind: str = "lines") -> Element | None:
    """Short lines one below the other; None without any."""
    shown = [tag("li", text) for text in texts if text]
    return tag("ul", *shown, class_=kind) if shown else None


def facts(pairs: Iterable[tuple[str, Inside]]) -> Element:
    """Names with what they are."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", what)) for name, what in pairs), class_="facts")
