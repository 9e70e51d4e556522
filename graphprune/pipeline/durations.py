"""How long something may take: seconds, or a number with a unit."""

from __future__ import annotations

import re

from graphprune.errors import ArgumentError
from graphprune.pipeline.amounts import Amounts

_DURATION = re.compile(r"(\d+(?:\.\d*)?)(s|m|min|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Durations(Amounts):
    """The words that stand for a time."""

    def __str__(self) -> str:
        return "a time such as 90s, 3m or 1h"

    def accepts(self, text: str) -> bool:
        """Whether a text is a time."""
        return _DURATION.fullmatch(text.strip()) is not None


def seconds(name: str, given: float | str) -> float:
    """A time in seconds.

    Raises:
        ArgumentError: it is none, or not more than zero.
    """
    found = _DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    if isinstance(given, str) and found is None:
        raise ArgumentError(f"{name} must be a time, got {given!r}", "write 90s, 3m or 1h")
    value = float(found[1]) * _SECONDS[found[2]] if found else float(given)
    if not 0 < value < float("inf"):
        raise ArgumentError(f"{name} must be more than 0 seconds, got {given}")
    return value
