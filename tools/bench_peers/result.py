"""What one measurement says, and how much everybody removes."""

from __future__ import annotations

from dataclasses import dataclass

from tools.bench_peers.measure import Region

RATIO = 0.5


@dataclass(frozen=True)
class Result:
    """One cell of the benchmark.

    Attributes:
        region: what the work cost.
        kept: parameters after over parameters before, where the work prunes.
        groups: number of groups found, where the work only analyses.
        runs: the pruned model still computes an output.
        note: what a reader has to know.
    """

    region: Region
    kept: float | None = None
    groups: int | None = None
    runs: bool | None = None
    note: str = ""
