"""Union-find over removable atoms, some of which are conjunctions of two others.

An atom is what one slot of an axis is tied to. It is either a leaf, or *expanded* into a pair (left, right):
"removed iff left or right is removed". This is first-order unification with one binary constructor; it is
what lets heads and head dims live on one axis (docs/theory.md#conjunctions). All operations take whole
index arrays.
"""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Bools, Ids

NOTHING = -1
FIRST_CAPACITY = 1 << 17
"""Room that most models never outgrow; it takes memory only as atoms are made."""


class Atoms:
    """A growing set of atoms with their classes, expansions and pins."""

    def __init__(self) -> None:
        self._size = 0
        self._families = 0
        self.version = 0
        self._settled = 0
        self._use(np.empty((5, 0), np.int64))

    def __len__(self) -> int:
        return self._size

    def alloc(self, count: int) -> Ids:
        """Returns `count` fresh atoms, each alone in its class."""
        start, self._size = self._size, self._size + count
        if self._size > len(self._parent):
            self._grow(max(self._size, 4 * len(self._parent), FIRST_CAPACITY), start)
        fresh = np.arange(start, self._size)
        self._parent[start : self._size] = fresh
        self._table[1:, start : self._size] = NOTHING
        return fresh

    def _grow(self, capacity: int, used: int) -> None:
        table = np.empty((5, capacity), np.int64)  # rows are written as atoms are made
        table[:, :used] = self._table[:, :used]
        self._use(table)

    def _use(self, table: Ids) -> None:
        self._table = table
        self._parent: Ids = table[0]
        self._left: Ids = table[1]
        self._right: Ids = table[2]
        self._pin: Ids = table[3]
        self._family: Ids = table[4]

    @property
    def plain(self) -> bool:
        """Whether no atom ever was a conjunction."""
        return self._families == 0

    def find(self, atoms: Ids) -> Ids:
        """Returns the class representative of each atom."""
        root = self._parent[atoms]
        above = self._parent[root]
        if _same(above, root):
            return root
        while True:
            above = self._parent[root]
            if _same(above, root):
                break
            grand = self._parent[above]
            self._parent[root] = grand
            root = grand
        self._parent[atoms] = root
        return root

    def parts(self, atoms: Ids) -> tuple[Ids, Ids]:
        """Returns the (left, right) classes each atom expands into, NOTHING for leaves."""
        root = self.find(atoms)
        return self._found(self._left[root]), self._found(self._right[root])

    def _found(self, atoms: Ids) -> Ids:
        some = atoms != NOTHING
        if _all(some):
            return self.find(atoms)
        out = atoms.copy()
        if _any(some):
            out[some] = self.find(atoms[some])
        return out

    def split(self, atoms: Ids) -> tuple[Ids, Ids] | None:
        """The (left, right) classes of atoms that all are conjunctions; None where one of them is a leaf."""
        if self.plain or not len(atoms):
            return None
        first = self._parent[atoms[0]]
        while first != self._parent[first]:
            first = self._parent[first]
        if self._left[first] == NOTHING:
            return None
        root = self.find(atoms)
        left = self._left[root]
        if _any(left == NOTHING):
            return None
        return self.find(left), self.find(self._right[root])

    def pins(self, atoms: Ids) -> Ids:
        """Returns the event that pinned each atom's class, NOTHING where it is free."""
        return self._pin[self.find(atoms)]

    def pin(self, atoms: Ids, event: int) -> None:
        """Forbids the removal of these atoms; the first event on a class is the one that is remembered."""
        root = self.find(atoms)
        free = root[self._pin[root] == NOTHING]
        if free.size:
            self._pin[free] = event
            self.version += 1

    def union(self, first: Ids, second: Ids) -> None:
        """Ties atoms pairwise, and the parts of those that are expanded."""
        if first is second:
            return
        work = [(first, second)]
        while work:
            a, b = work.pop()
            work.extend(self._merge(a, b))

    def _merge(self, a: Ids, b: Ids) -> list[tuple[Ids, Ids]]:
        a, b = self.find(a), self.find(b)
        if _same(a, b):
            return []
        self.version += 1
        apart = a != b
        a, b = a[apart], b[apart]
        olds = np.concatenate([a, b])
        while True:
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.minimum.at(self._parent, high, low)
            a, b = self.find(a), self.find(b)
            if _same(a, b):
                break
            apart = a != b
            a, b = a[apart], b[apart]
        return self._inherit(olds)

    def _inherit(self, olds: Ids) -> list[tuple[Ids, Ids]]:
        """Hands pins and expansions of merged roots to their new root; returns the part pairs that follow."""
        new = self.find(olds)
        pinned = self._pin[olds] != NOTHING
        if _any(pinned):
            self._inherit_pins(new[pinned], self._pin[olds[pinned]])
        if self.plain:
            return []
        expanded = self._left[olds] != NOTHING
        if not _any(expanded):
            return []
        olds = np.unique(olds[expanded])
        new = self.find(olds)
        roots, first, inverse = np.unique(new, return_index=True, return_inverse=True)
        left, right = self._left[olds], self._right[olds]
        self._left[roots], self._right[roots] = left[first], right[first]
        self._family[roots] = self._family[olds[first]]
        follow = np.flatnonzero(first[inverse] != np.arange(len(olds)))
        if not follow.size:
            return []
        chosen = first[inverse[follow]]
        return [(left[follow], left[chosen]), (right[follow], right[chosen])]

    def _inherit_pins(self, roots: Ids, events: Ids) -> None:
        current = self._pin[roots]
        self._pin[roots] = np.where(current == NOTHING, np.iinfo(np.int64).max, current)
        np.minimum.at(self._pin, roots, events)

    def expand(self, atoms: Ids, left: Ids, right: Ids) -> None:
        """Declares each atom to be the conjunction of a left and a right part."""
        open_ = ~self._holds(atoms, left, right)
        if not open_.all():
            atoms, left, right = atoms[open_], left[open_], right[open_]
        root = self.find(atoms)
        fresh, first = np.unique(root, return_index=True)
        leaf = self._left[fresh] == NOTHING
        if leaf.any():
            self._left[fresh[leaf]] = left[first[leaf]]
            self._right[fresh[leaf]] = right[first[leaf]]
            self._family[fresh[leaf]] = self._families
            self._families += 1
            self.version += 1
        self.union(self._left[root], left)
        root = self.find(atoms)
        self.union(self._right[root], right)

    def _holds(self, atoms: Ids, left: Ids, right: Ids) -> Bools:
        """Where an atom already is the conjunction: it equals one part, and the other can never go."""
        atoms, left, right = self.find(atoms), self.find(left), self.find(right)
        fixed_left, fixed_right = self._pin[left] != NOTHING, self._pin[right] != NOTHING
        same_left, same_right = atoms == left, atoms == right
        leaf = self._left[atoms] == NOTHING
        by_left, by_right = same_left & (fixed_right | same_right), same_right & fixed_left
        held: Bools = leaf & (by_left | by_right)
        return held

    def settle(self) -> None:
        """Pins parts of pinned conjunctions, drops parts that cannot go, breaks cyclic conjunctions."""
        while self._settled != self.version:
            self._settled = self.version
            if not self.plain:
                self._spread_pins()
                self._simplify()
                self._break_cycles()

    def _heads(self) -> Ids:
        everything = np.arange(self._size)
        roots = everything[self._parent[: self._size] == everything]
        heads: Ids = roots[self._left[roots] != NOTHING]
        return heads

    def _spread_pins(self) -> None:
        while True:
            heads = self._heads()
            heads = heads[self._pin[heads] != NOTHING]
            before = self.version
            for parts in (self._left[heads], self._right[heads]):
                self._pin_parts(parts, self._pin[heads])
            if self.version == before:
                return

    def _simplify(self) -> None:
        """Where a whole factor of a product is pinned, a slot goes exactly when its other part goes."""
        heads = self._heads()
        if not heads.size:
            return
        left, right = self.parts(heads)
        fixed_left, fixed_right = (self._whole(heads, self._pin[part] != NOTHING) for part in (left, right))
        for fixed, other in ((fixed_right & ~fixed_left, left), (fixed_left & ~fixed_right, right)):
            if fixed.any():
                chosen = self.find(heads[fixed])
                self._left[chosen] = self._right[chosen] = NOTHING
                self.version += 1
                self.union(chosen, other[fixed])

    def _whole(self, heads: Ids, pinned: Bools) -> Bools:
        whole = np.ones(self._families, bool)
        np.logical_and.at(whole, self._family[heads], pinned)
        return whole[self._family[heads]]

    def _pin_parts(self, parts: Ids, events: Ids) -> None:
        parts = self.find(parts)
        free = self._pin[parts] == NOTHING
        if free.any():
            self._inherit_pins(parts[free], events[free])
            self.version += 1

    def _break_cycles(self) -> None:
        """Occurs check: one decision for everything inside a cyclic conjunction (coarser, still sound)."""
        while True:
            heads = self._heads()
            left, right = self.parts(heads)
            if self._is_well_founded(heads, left, right):
                return
            component = self._components(heads, left, right)
            cyclic = (component[left] == component[heads]) | (component[right] == component[heads])
            if not cyclic.any():
                return
            bad, left, right = heads[cyclic], left[cyclic], right[cyclic]
            self._left[bad] = NOTHING
            self._right[bad] = NOTHING
            self.version += 1
            self.union(bad, left)
            self.union(self.find(bad), right)

    def _is_well_founded(self, heads: Ids, left: Ids, right: Ids) -> bool:
        """Whether conjunctions end in leaves; peels off, time and again, those whose parts are done."""
        waiting = np.zeros(self._size, bool)
        waiting[heads] = True
        while heads.size:
            stuck = waiting[left] | waiting[right]
            if _all(stuck):
                return False
            waiting[heads[~stuck]] = False
            heads, left, right = heads[stuck], left[stuck], right[stuck]
        return True

    def _components(self, heads: Ids, left: Ids, right: Ids) -> Ids:
        """The strongly connected component of every atom under 'is a conjunction of'."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        rows, columns = np.concatenate([heads, heads]), np.concatenate([left, right])
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(self._size, self._size))
        return connected_components(graph, directed=True, connection="strong")[1].astype(np.int64)

    def base(self, atoms: Ids) -> tuple[Ids, Ids, Ids]:
        """Resolves atoms to leaves.

        Returns:
            (position, leaf, path): for each leaf that removes atoms[position], and the left/right path that
            led to it (1 at the root; 2p for a left, 2p+1 for a right step).
        """
        position, root = np.arange(len(atoms)), self.find(atoms)
        path = np.ones(len(atoms), np.int64)
        if self.plain or _all(self._left[root] == NOTHING):
            return position, root, path
        done: list[tuple[Ids, Ids, Ids]] = []
        while position.size:
            leaf = self._left[root] == NOTHING
            done.append((position[leaf], root[leaf], path[leaf]))
            position, root, path = position[~leaf], root[~leaf], path[~leaf]
            left, right = self.find(self._left[root]), self.find(self._right[root])
            position = np.concatenate([position, position])
            root, path = np.concatenate([left, right]), np.concatenate([2 * path, 2 * path + 1])
        columns = (
            [np.concatenate(column) for column in zip(*done, strict=True)] if done else [atoms, atoms, atoms]
        )
        return columns[0], columns[1], columns[2]

    def kept(self, removed: Bools) -> Bools:
        """Given which leaves (by root id) are removed, returns for every root id whether it is kept."""
        keep = ~removed
        if self.plain:
            return keep
        heads = self._heads()
        left, right = self.parts(heads)
        while True:
            new = keep[left] & keep[right]
            if np.array_equal(new, keep[heads]):
                return keep
            keep[heads] = new


# Arrays here are short and many: these three do without the Python layers of numpy's own.
_any = np.logical_or.reduce
_all = np.logical_and.reduce


def _same(a: Ids, b: Ids) -> bool:
    return a.tobytes() == b.tobytes()
