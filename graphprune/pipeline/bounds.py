"""Checks of arguments that several passes have."""

from __future__ import annotations

from graphprune.errors import ArgumentError
from graphprune.pipeline.amounts import MEASURES, budgets


def require_one(**given: float | str | None) -> None:
    """At most one of some budgets.

    Raises:
        ArgumentError: there are two.
    """
    if sum(value is not None for value in given.values()) > 1:
        *rest, last = given
        raise ArgumentError(
            f"give one of {', '.join(rest)} and {last}, not {'both' if len(given) == 2 else 'several'}"
        )


def require_budgets(item: object, **instead: float | None) -> None:
    """Budgets that can be, and nothing else that says how much goes.

    Raises:
        ArgumentError: one cannot be, or there is something else beside them.
    """
    given = budgets(item)
    others = [name for name, value in instead.items() if value is not None]
    if given and others:
        raise ArgumentError(
            f"{others[0]} says how much goes, so it stands alone: leave it or {next(iter(given))} out",
            f"several of {', '.join(MEASURES)} may stand together",
        )
    require_one(**instead)
