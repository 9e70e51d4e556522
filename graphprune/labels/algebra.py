"""Labels of axes: products of factors, and the algebra that rules use on them (docs/theory.md#labels).

Sizes are pairs: the size of an axis at two generic points of the model's symbolic dimensions. Equal
components mean a static size; everything a Reshape needs (prefix products, divisor chains) works on pairs as
on integers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from graphprune.ir.arrays import Ids
from graphprune.labels.atoms import NOTHING, Atoms

Size = tuple[int, int]
ONE: Size = (1, 1)


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor of an axis: its atoms, or none when its slots are never removed.

    Attributes:
        size: number of slots at the two points.
        atoms: one atom per slot; None for a fixed factor.
        why: event that says why the factor is fixed, NOTHING when no reason is known.
    """

    size: Size
    atoms: Ids | None = None
    why: int = NOTHING


Label = tuple[Factor, ...]


def times(a: Size, b: Size) -> Size:
    """Product at both points."""
    return a[0] * b[0], a[1] * b[1]


def divides(a: Size, b: Size) -> bool:
    """Whether a divides b at both points."""
    return a[0] > 0 and a[1] > 0 and b[0] % a[0] == 0 and b[1] % a[1] == 0


def quotient(a: Size, b: Size) -> Size:
    """A / b at both points; b must divide a."""
    return a[0] // b[0], a[1] // b[1]


def is_static(size: Size) -> bool:
    """Whether the size is the same at both points."""
    return size[0] == size[1]


def size_of(label: Label) -> Size:
    """Number of slots of an axis."""
    if len(label) == 1:
        return label[0].size
    return prod([f.size[0] for f in label]), prod([f.size[1] for f in label])


def fixed(size: Size, why: int = NOTHING) -> Label:
    """The label of an axis that never shrinks."""
    return () if size == ONE else (Factor(size, None, why),)


def is_fixed(label: Label) -> bool:
    """Whether no slot of the axis can go."""
    for factor in label:  # noqa: SIM110 - asked so often that a generator would show
        if factor.atoms is not None:
            return False
    return True


def prefixes(factors: Sequence[Factor]) -> list[Size]:
    """Prefix products, the leading 1 included."""
    out = [ONE]
    for factor in factors:
        out.append(times(out[-1], factor.size))
    return out


def chain(*boundaries: Sequence[Size]) -> list[Size] | None:
    """Merges prefix products into one divisor chain, or None if they do not nest."""
    merged = sorted({size for sizes in boundaries for size in sizes})
    for small, large in pairwise(merged):
        if not divides(small, large):
            return None
    return merged


class Algebra:
    """Operations on labels; all constraints end up as unions, expansions and pins of atoms."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self._memory: dict[Hashable, Ids] = {}

    def _remembered(self, key: Hashable, count: int) -> Ids:
        """The same atoms for the same key in every pass, so that passes reach a fixpoint."""
        known = self._memory.get(key)
        if known is None or len(known) != count:
            known = self._memory[key] = self.atoms.alloc(count)
        return known

    def fresh(self, size: Size, key: Hashable) -> Label:
        """Returns the label of atoms that belong to `key` for an axis of static size."""
        if size == ONE:
            return ()
        if not is_static(size) or size[0] == 0:
            return fixed(size)
        return (Factor(size, self._remembered(key, size[0])),)

    def pin(self, label: Label, event: int) -> None:
        """No slot of this axis may be removed."""
        for factor in label:
            if factor.atoms is not None:
                self.atoms.pin(factor.atoms, event)

    def normal(self, label: Label) -> Label:
        """Replaces factors whose atoms already expand as a product by those factors."""
        if self.atoms.plain or is_fixed(label):
            return label
        out: list[Factor] = []
        work = list(reversed(label))
        while work:
            factor = work.pop()
            parts = self._as_product(factor)
            if parts is None:
                out.append(factor)
            else:
                work.extend(reversed(parts))
        return tuple(out)

    def _as_product(self, factor: Factor) -> tuple[Factor, Factor] | None:
        if factor.atoms is None:
            return None
        parts = self.atoms.split(factor.atoms)
        if parts is None:
            return None
        left, right = parts
        changes = np.flatnonzero(left != left[0])
        inner = int(changes[0]) if changes.size else 0
        if inner <= 1 or len(left) % inner:
            return None
        return self._product_of(left, right, len(left) // inner, inner)

    @staticmethod
    def _product_of(left: Ids, right: Ids, outer: int, inner: int) -> tuple[Factor, Factor] | None:
        rows, columns = left.reshape(outer, inner), right.reshape(outer, inner)
        if (rows != rows[:, :1]).any() or (columns != columns[:1]).any():
            return None
        return Factor((outer, outer), rows[:, 0].copy()), Factor((inner, inner), columns[0].copy())

    def cut(self, factor: Factor, outer: Size) -> tuple[Factor, Factor]:
        """Splits one factor into a product of two, the first of size `outer` (which divides it)."""
        inner = quotient(factor.size, outer)
        if factor.atoms is None:
            return Factor(outer, None, factor.why), Factor(inner, None, factor.why)
        repeated = self._repeated(factor, outer[0], inner[0])
        if repeated is not None:
            return repeated
        halves = self.atoms.split(factor.atoms)
        parts = None if halves is None else self._product_of(*halves, outer[0], inner[0])
        if parts is not None:
            return parts
        key = (outer[0], factor.atoms.tobytes())
        g, h = self._remembered(("outer", key), outer[0]), self._remembered(("inner", key), inner[0])
        self.atoms.expand(factor.atoms, np.repeat(g, inner[0]), np.tile(h, outer[0]))
        return Factor(outer, g), Factor(inner, h)

    def _repeated(self, factor: Factor, outer: int, inner: int) -> tuple[Factor, Factor] | None:
        """A factor whose rows or columns all repeat one atom is already a product with a fixed part."""
        assert factor.atoms is not None
        grid = self.atoms.find(factor.atoms).reshape(outer, inner)
        if (grid == grid[:, :1]).all():
            return Factor((outer, outer), grid[:, 0].copy()), Factor((inner, inner), None, factor.why)
        if (grid == grid[:1]).all():
            return Factor((outer, outer), None, factor.why), Factor((inner, inner), grid[0].copy())
        return None

    def refine(self, factors: Label, boundaries: Sequence[Size]) -> Label:
        """Cuts factors so that every boundary (of a divisor chain) is a prefix product."""
        out: list[Factor] = []
        done = ONE
        for factor in factors:
            end = times(done, factor.size)
            for boundary in boundaries:
                if done < boundary < end and divides(done, boundary) and divides(boundary, end):
                    first, factor = self.cut(factor, quotient(boundary, done))
                    out.append(first)
                    done = boundary
            out.append(factor)
            done = end
        return tuple(out)

    def equate(self, a: Label, b: Label, event: int) -> None:
        """Ties two axes of equal size slot by slot; pins both if their cuts do not nest."""
        if a is b:
            return
        a, b = self.normal(a), self.normal(b)
        if len(a) == len(b) == 1 and a[0].size == b[0].size and min(a[0].size) > 0:
            self._tie(a[0], b[0], event)
            return
        cuts = chain(prefixes(a), prefixes(b))
        if cuts is None or size_of(a) != size_of(b):
            self.pin(a, event)
            self.pin(b, event)
            return
        for one, two in zip(self.refine(a, cuts), self.refine(b, cuts), strict=True):
            self._tie(one, two, event)

    def _tie(self, one: Factor, two: Factor, event: int) -> None:
        if one.atoms is None or two.atoms is None:
            for this, other in ((one, two), (two, one)):
                if this.atoms is not None:
                    self.atoms.pin(this.atoms, other.why if other.why != NOTHING else event)
            return
        self.atoms.union(one.atoms, two.atoms)

    def flat(self, label: Label, key: Hashable) -> Ids | None:
        """One atom per slot of a static axis (conjunctions where it is a product); None if all are fixed."""
        label = self.normal(label)
        if is_fixed(label):
            return None
        atoms: Ids | None = None
        for index, factor in enumerate(label):
            part = self._atoms_of(factor, (key, index, "fixed"))
            atoms = part if atoms is None else self._conjunction(atoms, part, (key, index))
        return atoms

    def _atoms_of(self, factor: Factor, key: Hashable) -> Ids:
        return (
            factor.atoms if factor.atoms is not None else self.pinned(factor.size[0], key, max(factor.why, 0))
        )

    def pinned(self, count: int, key: Hashable, event: int) -> Ids:
        """Atoms that may not be removed, the same ones for the same key."""
        atoms = self._remembered(key, count)
        self.atoms.pin(atoms, event)
        return atoms

    def _conjunction(self, outer: Ids, inner: Ids, key: Hashable) -> Ids:
        both = self._remembered(key, len(outer) * len(inner))
        left, right = np.repeat(outer, len(inner)), np.tile(inner, len(outer))
        if self._all_pinned(inner):
            self.atoms.union(both, left)
        elif self._all_pinned(outer):
            self.atoms.union(both, right)
        else:
            self.atoms.expand(both, left, right)
        return both

    def _all_pinned(self, atoms: Ids) -> bool:
        return bool((self.atoms.pins(atoms) != NOTHING).all())
