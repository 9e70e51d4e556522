"""Checks of arguments that several passes have."""

from __future__ import annotations

from graphprune.errors import ArgumentError


def require_one(**given: float | None) -> None:
    """At most one of some budgets.

    Raises:
        ArgumentError: there are two.
    """
    if sum(value is not None for value in given.values()) > 1:
        *rest, last = given
        raise ArgumentError(
            f"give one of {', '.join(rest)} and {last}, not {'both' if len(given) == 2 else 'several'}"
        )


def require_kept(**shares: float | None) -> None:
    """Shares that are kept: more than nothing.

    Raises:
        ArgumentError: one is not in (0, 1].
    """
    for label, value in shares.items():
        if value is not None and not 0 < value <= 1:
            raise ArgumentError(f"{label} is the share that is kept: it must be in (0, 1], got {value}")
