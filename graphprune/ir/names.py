"""Names that a model chose, made safe to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

# Cc: control, Cf: invisible and bidirectional marks, Cs: lone surrogates, Zl and Zp: line breaks.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MAX_SHOWN = 200
_MAX_LISTED = 8


def escape(name: str) -> str:
    r"""The name with control and invisible characters as visible escapes, e.g. "a\x1b[2J"."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(_visible(char) for char in name)


def quote(name: str) -> str:
    """The escaped name in single quotes for a message, shortened when it is very long."""
    shown = escape(name)
    return f"'{shown}'" if len(shown) <= _MAX_SHOWN else f"'{shown[:_MAX_SHOWN]}...'"


def listed(names: Sequence[str]) -> str:
    """The first few names, quoted, and how many more there are."""
    shown = ", ".join(quote(name) for name in names[:_MAX_LISTED])
    more = len(names) - _MAX_LISTED
    return shown if more <= 0 else f"{shown} and {more} more"


def count(number: int, noun: str) -> str:
    """A number of things: `1 group`, `3 groups`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def called(node: ir.Node) -> str:
    """A node for a message: operator and name as in the file; without a name, what it makes first."""
    if node.name:
        return f"{node.op_type} {quote(node.name)}"
    made = next((value.name for value in node.outputs if value.name), None)
    return node.op_type if made is None else f"{node.op_type} of {quote(made)}"


def _visible(char: str) -> str:
    if unicodedata.category(char) not in _UNPRINTABLE:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
