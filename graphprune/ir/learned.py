"""What clashes of sizes say about the symbolic dimensions of a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class Symbols:
    """The sizes of open dimensions at the two generic points, and what is learned about them on the way.

    Args:
        known: what earlier attempts learned.

    Attributes:
        clash: what this attempt learned in addition; None while nothing.
    """

    def __init__(self, known: Learned) -> None:
        self.known = known
        self.clash: Learned | None = None
        self._sizes: dict[object, Size] = {}
        self._primes = _primes()

    def size(self, key: object, factor: int = 1) -> Size:
        """The size of a symbol: a multiple of a prime at each point, unless it is known."""
        if key not in self._sizes:
            self._sizes[key] = (next(self._primes) * factor, next(self._primes) * factor)
        return self.known.values.get(key, self._sizes[key])

    def fix(self, pairs: Iterable[tuple[Size, Size]]) -> None:
        """Sizes that must be equal: a symbol, or a multiple of one, that meets a weight takes its size."""
        for pair in pairs:
            for open_size, (a, b) in (pair, pair[::-1]):
                factor = self._factor(open_size) if a == b and open_size != (a, b) else None
                if factor is not None and a > 0 and a % factor[1] == 0:
                    self.clash = (self.clash or self.known).weighed(factor[0], a // factor[1])

    def _factor(self, size: Size) -> tuple[object, int] | None:
        """The symbol that a size is a multiple of, and how many times."""
        for symbol, (a, b) in self._sizes.items():
            times = size[0] // a
            if times and (a * times, b * times) == size and symbol not in self.known.values:
                return symbol, times
        return None

    def meet(self, sizes: Sequence[Size]) -> None:
        """Two different sizes meet where they must be equal: a bare symbol takes the other's value."""
        for symbol, size in self._sizes.items():
            if size in sizes and self.clash is None:
                self.clash = self.known.equal(symbol, next(other for other in sizes if other != size))
        for symbol, rest in self.known.rests.items():
            (a, b), (c, d) = sizes[:2]
            for more in ((a - c, b - d), (c - a, d - b)):
                if self.clash is None and min(rest[0] + more[0], rest[1] + more[1]) > 0:
                    whole = self.known.values[symbol]
                    start = (whole[0] - rest[0], whole[1] - rest[1])
                    self.clash = self.known.longer(symbol, start, (rest[0] + more[0], rest[1] + more[1]))

    def emptied(self, start: Size, before: Sequence[Size], after: Sequence[Size]) -> None:
        """A Slice that leaves nothing of a symbol starts behind its end: the symbol must be longer."""
        for old, new in zip(before, after, strict=False) if self.clash is None else ():
            symbol = next((key for key, size in self._sizes.items() if size == old), None)
            if new == (0, 0) and old != new and symbol is not None and min(start) >= max(old):
                self.clash = self.known.longer(symbol, start, (next(self._primes), next(self._primes)))


def _primes() -> Iterator[int]:
    for number in itertools.count(31, 2):
        if all(number % d for d in range(3, int(number**0.5) + 1, 2)):
            yield number
