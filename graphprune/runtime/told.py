"""Single values out of files that somebody else wrote."""

from __future__ import annotations

import math


def number(told: object) -> float:
    """A finite number from zero on.

    Raises:
        ValueError: it is none.
    """
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < math.inf:
        raise ValueError
    return float(told)


def text(told: object) -> str:
    """A string.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(told, str):
        raise TypeError
    return told
