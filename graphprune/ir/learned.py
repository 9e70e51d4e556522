"""What clashes of sizes say about the symbolic dimensions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Size = tuple[int, int]


@dataclass(frozen=True)
class Learned:
    """What clashes said about symbols.

    Attributes:
        values: sizes of symbols that are not free.
        fixed: those of them that a weight fixes.
        rests: of a symbol that is longer than a stretch cut off it, the rest (both of unknown length).
        count: how many things were learned.
    """

    values: Mapping[object, Size] = field(default_factory=dict)
    fixed: Mapping[object, int] = field(default_factory=dict)
    rests: Mapping[object, Size] = field(default_factory=dict)
    count: int = 0

    def equal(self, symbol: object, size: Size) -> Learned:
        """Adds the size of a symbol."""
        return replace(self, values={**self.values, symbol: size}, count=self.count + 1)

    def weighed(self, symbol: object, size: int) -> Learned:
        """Adds the size of a symbol that a weight fixes: certain, so it does not count as a try."""
        return replace(self, values={**self.values, symbol: (size, size)}, fixed={**self.fixed, symbol: size})

    def longer(self, symbol: object, start: Size, rest: Size) -> Learned:
        """Adds that a symbol is `start` plus a rest."""
        values = {**self.values, symbol: (start[0] + rest[0], start[1] + rest[1])}
        return replace(self, values=values, rests={**self.rests, symbol: rest}, count=self.count + 1)
