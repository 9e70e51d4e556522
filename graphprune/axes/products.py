"""What is counted of a model, as products of kept slots: elements of tensors, multiply-adds of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from graphprune.ir.arrays import Ids


@dataclass(frozen=True)
class Slots:
    """Kept slots of a factor: how many, and which (empty where all are)."""

    count: int
    mask: bytes = b""


AllSlots = Mapping[int, Slots]


@dataclass(frozen=True)
class Product:
    """Elements of a tensor or multiply-adds of a node: proportional to the kept share of some factors."""

    dense: int
    factors: tuple[int, ...]
    size: int

    def left(self, kept: AllSlots) -> int:
        """What a cut leaves of it."""
        return self.dense * prod(kept[factor].count for factor in self.factors) // self.size


@dataclass(frozen=True)
class Elements:
    """One use of a tensor: every axis as a fixed size and the factors that it is multiplied with."""

    axes: tuple[tuple[int, tuple[int, ...]], ...]
    blocks: int

    def elements(self, kept: AllSlots) -> int:
        """How many a cut leaves."""
        return prod(size * prod(kept[f].count for f in factors) for size, factors in self.axes) // self.blocks

    def slots(self, kept: AllSlots) -> tuple[tuple[bytes, ...], ...]:
        """Equal for uses that keep the same slots, and so read one tensor."""
        return tuple(tuple(kept[f].mask for f in factors) for _, factors in self.axes)


@dataclass(frozen=True)
class Clones:
    """Elements of one tensor with several uses: those that keep different slots count as clones."""

    packing: int
    uses: tuple[Elements, ...]

    def left(self, kept: AllSlots) -> int:
        """Elements of all clones that a cut makes necessary."""
        tensors = {use.slots(kept): use for use in self.uses}
        return self.packing * sum(use.elements(kept) for use in tensors.values())

    @property
    def factors(self) -> set[int]:
        """Factors of any use."""
        return {factor for use in self.uses for _, factors in use.axes for factor in factors}


Counted = Product | Clones


class Total:
    """The sum of many counts; products are taken at once, as a search counts a model again and again.

    Attributes:
        needs: factors whose slots are asked for one by one.
    """

    def __init__(self, items: Sequence[Counted], factors: int) -> None:
        even = [item for item in items if isinstance(item, Product) and not item.dense % item.size]
        chosen = set(map(id, even))
        self._rest = [item for item in items if id(item) not in chosen]
        self.needs = frozenset(number for item in self._rest for number in item.factors)
        # Per kept slot, so that nothing on the way exceeds what is counted. One factor more is always 1.
        self._each = np.array([item.dense // item.size for item in even], np.int64)
        ends = [(*item.factors, factors) for item in even]
        self._factors = np.array([number for each in ends for number in each], np.int64)
        self._starts = np.cumsum([0, *map(len, ends)])[:-1]

    def left(self, counts: Ids, kept: AllSlots) -> int:
        """What is left where so many slots of every factor are kept, and these of those it needs."""
        rest = sum(item.left(kept) for item in self._rest)
        if not len(self._each):
            return rest
        slots = np.append(counts, 1)[self._factors]
        return rest + int((self._each * np.multiply.reduceat(slots, self._starts)).sum())


class Over(dict[int, Slots]):
    """Slots of some factors over those of all."""

    def __init__(self, below: AllSlots, above: AllSlots) -> None:
        super().__init__(above)
        self._below = below

    def __missing__(self, key: int) -> Slots:
        return self._below[key]
