"""What clashes of sizes say about the symbolic dimensions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Size = tuple[int, int]


@dataclass(frozen=True)
class Learned:
    """What clashes said about symbols.

    Attributes:
        values: sizes of symbols that are not free.
        rests: of a symbol that is longer than a stretch cut off it, the rest (both of unknown length).
        count: how many things were learned.
    """

    values: Mapping[object, Size] = field(default_factory=dict)
    rests: Mapping[object, Size] = field(default_factory=dict)
    count: int = 0

    def equal(self, symbol: object, size: Size) -> Learned:
        """Adds the size of a symbol."""
        return Learned({**self.values, symbol: size}, self.rests, self.count + 1)

    def longer(self, symbol: object, start: Size, rest: Size) -> Learned:
        """Adds that a symbol is `start` plus a rest."""
        values = {**self.values, symbol: (start[0] + rest[0], start[1] + rest[1])}
        return Learned(values, {**self.rests, symbol: rest}, self.count + 1)
