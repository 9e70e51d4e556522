"""LLM-Pruner: heads and neurons whose weights the loss feels least, the same share in every middle block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphprune.axes import Analysis, Group
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.passes import argument
from graphprune.pipeline.structured import Structured

if TYPE_CHECKING:
    from graphprune.axes.kinds import Kind

FIRST, LAST = 8, 16
"""One block in so many stays whole at the start and at the end: 4 and 2 of 32 in the paper."""


@dataclass(frozen=True)
class LlmPruner(
    Structured, criterion="taylor", scope="local", allocate="local", repair="none", kinds=("heads", "neurons")
):
    """Removes heads and neurons by first-order change of the loss (arXiv 2305.11627), ends of the net kept.

    Its variants are criteria: `taylor` (element), `taylor-vector`, `taylor-second`, `taylor-mixed`. With
    kinds=stream it is the paper's *channel-wise* form.
    """

    name: ClassVar[str] = "llm-pruner"

    keep_first: int = argument(-1, f"blocks that stay whole at the start; -1: one in {FIRST}")
    keep_last: int = argument(-1, f"blocks that stay whole at the end; -1: one in {LAST}")

    def __post_init__(self) -> None:
        super().__post_init__()
        for label, value in (("keep-first", self.keep_first), ("keep-last", self.keep_last)):
            if value < -1:
                raise ArgumentError(f"{label} must be at least 0, or -1, got {value}")

    def candidates(
        self, analysis: Analysis, groups: tuple[Group, ...], found: Mapping[str, Kind]
    ) -> tuple[Group, ...]:
        """All but those of the first and last blocks; Groups in no block may be cut."""
        from graphprune.prune.blocks import numbered
        from graphprune.prune.evidence import SiteIndex

        numbers = numbered(groups, SiteIndex(analysis), found)
        count = max(numbers.values(), default=-1) + 1
        first = count // FIRST if self.keep_first < 0 else self.keep_first
        last = count // LAST if self.keep_last < 0 else self.keep_last
        left = tuple(g for g in groups if g.id not in numbers or first <= numbers[g.id] < count - last)
        if groups and not left:
            raise PromiseError(
                f"nothing to prune: keep-first={first} and keep-last={last} leave none of {count} blocks",
                "lower them",
            )
        return left
