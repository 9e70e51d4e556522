"""What a campaign notes down of every seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one seed.

    Attributes:
        blocks: what the graph is a chain of.
        failures: kind and detail of everything that does not hold.
        cpu_s: CPU seconds.
        graphs: 1, or 2 where the seed also gives a graph in which half of all Units are dead.
    """

    seed: int
    blocks: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    cpu_s: float
    graphs: int
