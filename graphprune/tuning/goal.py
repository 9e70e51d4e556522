"""What a search is after: a cost that is to be least, or bounds that are to be met at the least loss."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from graphprune.errors import ArgumentError, did_you_mean, in_percent
from graphprune.ir.names import quote
from graphprune.pipeline import amounts

What = Literal["latency", "macs", "params", "bytes"]
WHATS: tuple[What, ...] = get_args(What)
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
EXAMPLE = "write latency, macs, params or bytes, or bounds: latency=8ms,bytes=4MB"


@dataclass(frozen=True)
class Figures:
    """What a model costs; latency is predicted, in seconds, of one sample."""

    latency: float
    macs: int | None
    params: int
    bytes: int

    def of(self, what: What) -> float:
        """One of them; what is not known is as much as can be."""
        found = getattr(self, what)
        return float("inf") if found is None else float(found)


@dataclass(frozen=True)
class Goal:
    """A cost that is to be least; with bounds, these are to be met, and the loss is to be least.

    Attributes:
        least: what candidates are compared by.
        bounds: up to 1 a share of the model as given, above an amount; a latency above is in seconds.
        amounts: which of the bounds are amounts.
    """

    least: What = "latency"
    bounds: Mapping[What, float] = field(default_factory=dict)
    amounts: frozenset[What] = frozenset()

    def missed(self, figures: Figures, dense: Figures) -> tuple[What, ...]:
        """Bounds that a model does not meet."""
        return tuple(what for what in self.bounds if figures.of(what) > self.bound(what, dense))

    def bound(self, what: What, dense: Figures) -> float:
        """The most that there may be of something."""
        given = self.bounds[what]
        return given if what in self.amounts else given * dense.of(what)

    def share(self, figures: Figures, dense: Figures) -> float:
        """What is left of the cost; with bounds, of the one that is furthest from being met, 1 where met."""
        if not self.bounds:
            return figures.of(self.least) / max(dense.of(self.least), 1e-12)
        return max(figures.of(what) / max(self.bound(what, dense), 1e-12) for what in self.bounds)


def parse(text: str) -> Goal:
    """A goal from its text.

    Raises:
        ArgumentError: it names nothing that is counted, or no amount of it.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) == 1 and "=" not in words[0]:
        return Goal(_what(words[0]))
    bounds: dict[What, float] = {}
    counted: set[What] = set()
    for word in words:
        name, sign, amount = word.partition("=")
        what = _what(name.strip())
        if not sign or what in bounds:
            problem = "is there twice" if sign else "has no amount"
            raise ArgumentError(f"target: {quote(what)} {problem}", EXAMPLE)
        bounds[what], is_amount = _bound(what, amount.strip())
        counted |= {what} if is_amount else set()
    return Goal("latency" if "latency" in bounds else next(iter(bounds)), bounds, frozenset(counted))


def _what(name: str) -> What:
    for what in WHATS:
        if name == what:
            return what
    raise ArgumentError(f"target: nothing is counted as {quote(name)}", did_you_mean(name, WHATS))


def _bound(what: What, text: str) -> tuple[float, bool]:
    """A number, and whether it is an amount rather than a share."""
    try:
        number: float | None = float(text)
    except ValueError:
        number = None
    if number is not None and 0 < number <= 1:
        return number, False
    if what != "latency":
        return amounts.left(what, text if number is None else number), True
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(us|ms|s)", text)
    if found is None or not float(found[1]) > 0:
        hint = in_percent(text) or "write 8ms, or 0.5 for half of what the model takes"
        raise ArgumentError(f"target: latency {quote(text)} is no time", hint)
    return float(found[1]) * SECONDS[found[2]], True
