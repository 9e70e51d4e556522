"""How candidates are made: pipeline texts out of the passes that there are, for what a model has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphprune.axes import Analysis

DENSE = "dense"
"""The model itself, only lowered."""


@dataclass(frozen=True)
class Way:
    """A pipeline with one number left open.

    Attributes:
        name: for tables.
        text: with {left}, the share of the multiply-adds, or of the latency, to be left, or {ratio}, the
            share of Units that goes where that is about what is left.
        needs: what a model must have for it.
        effort: what it costs to make, in runs over the samples, about.
    """

    name: str
    text: str
    needs: str = ""
    effort: int = 3

    def pipeline(self, left: float, seconds: float = 60.0) -> str:
        """Its passes as text; a training lasts so many seconds."""
        # Widths go in and come out of a layer: of both 1 - r is left, and of its multiply-adds the square.
        ratio = 1 - math.sqrt(left)
        return self.text.format(left=f"{left:.4g}", ratio=f"{ratio:.4g}", seconds=round(seconds))


WAYS = (
    Way("latency", "obspa(latency={left}, allocate=local, io=fixed)", effort=4),
    Way("obspa", "obspa(macs={left}, allocate=local, io=fixed)"),
    Way("units", "obspa(ratio={ratio}, io=fixed)"),
    Way(
        "refit", "prune(macs={left}, criterion=l2, repair=refit, driver=sequential, allocate=local, io=fixed)"
    ),
    Way("flap", "flap(macs={left}, kinds=all, io=fixed)", effort=1),
    Way("isomorphic", "obspa(macs={left}, scope=isomorphic, io=fixed)"),
    Way("rounds", "obspa(macs={left}, rounds=3, allocate=local, io=fixed)", effort=9),
    Way("output", "obspa(macs={left}, allocate=output, io=fixed)", effort=6),
    Way("expand", "obspa(macs={left}, layernorm=expand, allocate=local, io=fixed)", needs="layernorm"),
    Way("heads", "flap(macs={left}, kinds=[heads, neurons], repair=refit, io=fixed)", needs="heads"),
    Way("minitron", "minitron(macs={left}, repair=refit, io=fixed)", needs="heads"),
    Way("depth", "depth(macs={left}, search=oneshot)", needs="sublayers", effort=4),
    Way("experts", "experts(params={left})", needs="experts", effort=2),
)
"""Most promising first."""


def trained(way: Way) -> Way:
    """The same cuts, and a training of what they leave."""
    return replace(
        way, name=f"{way.name}+recover", text=f"{way.text}, recover(time={{seconds}}s)", effort=100
    )


BY_NAME = {each.name: each for way in WAYS for each in (way, trained(way))}
BY_NAME |= {DENSE: Way(DENSE, "canonicalize", effort=0)}


def ways(analysis: Analysis) -> tuple[Way, ...]:
    """Those that a model has something for."""
    found = set(_has(analysis))
    return tuple(way for way in WAYS if (way.needs or "units") in found)


def _has(analysis: Analysis) -> Iterator[str]:
    from graphprune.axes.kinds import kinds
    from graphprune.axes.sublayers import find_sublayers

    free = {group.id for group in analysis.prunable}
    there = {kind for name, kind in kinds(analysis).items() if name in free}
    if free:
        yield "units"
    yield from there & {"heads", "experts"}
    if any(group.pin is not None and "layernorm=expand" in group.pin.unblock for group in analysis.groups):
        yield "layernorm"
    if find_sublayers(analysis).found:
        yield "sublayers"
