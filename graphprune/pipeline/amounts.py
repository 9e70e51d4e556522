"""What a budget leaves: a share of the model as given up to 1, an amount with or without a unit above it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from graphprune.errors import ArgumentError

COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
TIMES = {"us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True)
class Measure:
    """What a budget counts.

    Attributes:
        noun: for messages.
        units: and what they are worth.
        example: of an amount.
        bare: what a number above 1 without a unit is; empty where it needs one.
    """

    noun: str
    units: Mapping[str, float]
    example: str
    bare: str


What = Literal["params", "macs", "bytes", "latency"]
MEASURES: dict[What, Measure] = {
    "params": Measure("parameters", COUNTS, "2M", "parameters"),
    "macs": Measure("multiply-adds", COUNTS, "300M", "multiply-adds"),
    "bytes": Measure("bytes", SIZES, "4MB", "bytes"),
    "latency": Measure("time", TIMES, "3ms", ""),
}
"""Arguments of passes that say what may be left, by name; a time counts in nanoseconds."""
COUNTED: tuple[What, ...] = ("params", "macs", "bytes")
"""Those that are counted, not measured."""
_AMOUNT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Amounts:
    """The words that stand for an amount."""

    units: frozenset[str] = frozenset(COUNTS | SIZES)
    examples: str = "2M or 4MB"

    def __str__(self) -> str:
        return f"an amount such as {self.examples}"

    def accepts(self, text: str) -> bool:
        """Whether a text may be one of some measure."""
        found = _AMOUNT.fullmatch(text)
        return found is not None and found[2].lower() in self.units


Left = float | Annotated[str, Amounts()] | None
"""A share, an amount, or no budget."""
LeftTime = float | Annotated[str, Amounts(frozenset(TIMES), "3ms")] | None
"""A share, a time, or no budget."""


def left(what: What, given: float | str) -> float:
    """A budget as a number: up to 1 a share, above an amount.

    Raises:
        ArgumentError: it is neither.
    """
    measure = MEASURES[what]
    if isinstance(given, str):
        found = _AMOUNT.fullmatch(given.strip())
        if found is None or found[2].lower() not in measure.units:
            raise ArgumentError(
                f"{what} '{given}' is no amount of {measure.noun}", f"write {measure.example}"
            )
        return max(float(found[1]) * measure.units[found[2].lower()], 1 + 1e-9)
    if not given > 0 or (given > 1 and (given != int(given) or not measure.bare)):
        amount = f"a whole number of {measure.bare}" if measure.bare else "a time with its unit"
        raise ArgumentError(
            f"{what} is the share that is kept, in (0, 1], or {amount}; got {given}",
            f"write 0.5 for half of the model, or {measure.example}",
        )
    return float(given)


def budgets(of: object) -> dict[What, float]:
    """What a pass says may be left, by the names of its arguments.

    Raises:
        ArgumentError: a value is no budget.
    """
    found = {what: getattr(of, what, None) for what in MEASURES}
    return {
        what: left(what, given)
        for what, given in found.items()
        if isinstance(given, int | float | str) and not isinstance(given, bool)
    }


def shown(what: What, given: float) -> str:
    """A budget as it is written."""
    if given <= 1:
        return f"{what}={given:g}"
    return f"{what}={given / TIMES['ms']:.10g}ms" if what == "latency" else f"{what}={given:.10g}"
