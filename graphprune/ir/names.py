"""Names that a model chose, made safe to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

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


def _visible(char: str) -> str:
    if unicodedata.category(char) not in _UNPRINTABLE:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
