"""Union-find with conjunctions: it does what a dictionary of sets does, only faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.labels.atoms import NOTHING, Atoms


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@dataclass
class Naive:
    """The same structure in plain Python: congruence closure by brute force."""

    parent: dict[int, int] = field(default_factory=dict)
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)

    def find(self, atom: int) -> int:
        while self.parent.get(atom, atom) != atom:
            atom = self.parent[atom]
        return atom

    def union(self, a: int, b: int) -> None:
        self.parent[self.find(a)] = self.find(b)
        self.close()

    def expand(self, atom: int, left: int, right: int) -> None:
        if not self._says_nothing(self.find(atom), self.find(left), self.find(right)):
            self.parts.append((atom, left, right))
        self.close()

    def _says_nothing(self, atom: int, left: int, right: int) -> bool:
        """A leaf that is one of its parts, where the other can never go (or is the same), stays a leaf."""
        fixed = {self.find(each) for each in self.pinned}
        is_leaf = all(self.find(whole) != atom for whole, _, _ in self.parts)
        by_left = atom == left and (right in fixed or atom == right)
        return is_leaf and (by_left or (atom == right and left in fixed))

    def close(self) -> None:
        """Atoms of one class have the same parts."""
        again = True
        while again:
            again = False
            first: dict[int, tuple[int, int]] = {}
            for atom, left, right in self.parts:
                one = first.setdefault(self.find(atom), (left, right))
                for a, b in zip(one, (left, right), strict=True):
                    if self.find(a) != self.find(b):
                        self.parent[self.find(a)] = self.find(b)
                        again = True

    def classes(self, count: int) -> set[frozenset[int]]:
        roots: dict[int, set[int]] = {}
        for atom in range(count):
            roots.setdefault(self.find(atom), set()).add(atom)
        return {frozenset(members) for members in roots.values()}


def classes(atoms: Atoms, count: int) -> set[frozenset[int]]:
    roots = atoms.find(np.arange(count))
    return {frozenset(np.flatnonzero(roots == root).tolist()) for root in np.unique(roots)}


def test_union_is_transitive_and_works_pairwise() -> None:
    atoms = Atoms()
    a = atoms.alloc(5)
    atoms.union(a[:3], a[1:4])
    assert classes(atoms, 5) == {frozenset({0, 1, 2, 3}), frozenset({4})}


def test_pins_reach_the_whole_class_and_the_first_event_is_remembered() -> None:
    atoms = Atoms()
    a = atoms.alloc(4)
    atoms.pin(a[:1], 7)
    atoms.pin(a[1:2], 3)
    atoms.union(a[:1], a[1:2])
    assert atoms.pins(a).tolist() == [3, 3, NOTHING, NOTHING]


def test_ties_between_conjunctions_tie_their_parts() -> None:
    atoms = Atoms()
    whole, left, right = atoms.alloc(2), atoms.alloc(2), atoms.alloc(2)
    atoms.expand(whole, left, right)
    atoms.union(whole[:1], whole[1:])
    assert atoms.find(left[:1]) == atoms.find(left[1:])
    assert atoms.find(right[:1]) == atoms.find(right[1:])


def test_a_pinned_conjunction_pins_both_parts() -> None:
    atoms = Atoms()
    whole, left, right = atoms.alloc(1), atoms.alloc(1), atoms.alloc(1)
    atoms.expand(whole, left, right)
    atoms.pin(whole, 5)
    atoms.settle()
    assert atoms.pins(np.concatenate([left, right])).tolist() == [5, 5]


def test_a_factor_that_is_pinned_as_a_whole_disappears() -> None:
    atoms = Atoms()
    slots, rows, columns = atoms.alloc(6), atoms.alloc(2), atoms.alloc(3)
    atoms.expand(slots, np.repeat(rows, 3), np.tile(columns, 2))
    atoms.pin(columns, 1)
    atoms.settle()
    assert (atoms.find(slots) == np.repeat(atoms.find(rows), 3)).all()


def test_a_factor_that_is_pinned_in_part_stays_a_factor() -> None:
    atoms = Atoms()
    slots, rows, columns = atoms.alloc(6), atoms.alloc(2), atoms.alloc(3)
    atoms.expand(slots, np.repeat(rows, 3), np.tile(columns, 2))
    atoms.pin(columns[:1], 1)
    atoms.settle()
    position, leaf, _ = atoms.base(slots[:1])
    assert sorted(leaf.tolist()) == sorted(atoms.find(ids(rows[0], columns[0])).tolist())
    assert position.tolist() == [0, 0]


def test_a_conjunction_inside_itself_becomes_one_decision() -> None:
    atoms = Atoms()
    whole, left, right = atoms.alloc(1), atoms.alloc(1), atoms.alloc(1)
    atoms.expand(whole, left, right)
    atoms.union(whole, left)
    atoms.settle()
    assert len(classes(atoms, 3)) == 1
    assert atoms.base(whole)[1].tolist() == atoms.find(whole).tolist()


def test_a_slot_is_kept_when_all_its_leaves_are() -> None:
    atoms = Atoms()
    slots, rows, columns = atoms.alloc(6), atoms.alloc(2), atoms.alloc(3)
    atoms.expand(slots, np.repeat(rows, 3), np.tile(columns, 2))
    removed = np.zeros(len(atoms), bool)
    removed[[rows[0], columns[2]]] = True
    assert atoms.kept(removed)[atoms.find(slots)].tolist() == [False] * 3 + [True, True, False]


def test_growth_keeps_what_is_known() -> None:
    atoms = Atoms()
    first = atoms.alloc(1000)
    atoms.union(first[:500], first[500:])
    atoms.pin(first[:1], 2)
    atoms.alloc(100_000)
    assert atoms.find(first[500:501]) == atoms.find(first[:1])
    assert atoms.pins(first[500:501]).tolist() == [2]


def test_a_long_chain_of_unions_stays_cheap() -> None:
    atoms = Atoms()
    a = atoms.alloc(200_000)
    atoms.union(a[:-1], a[1:])
    assert (atoms.find(a) == 0).all()


STEPS = st.lists(
    st.tuples(st.sampled_from(["union", "expand", "pin"]), *[st.integers(0, 11)] * 3), max_size=14
)


def _run(steps: Sequence[tuple[str, int, int, int]]) -> tuple[Atoms, Naive]:
    atoms, naive = Atoms(), Naive()
    atoms.alloc(12)
    for kind, a, b, c in steps:
        if kind == "union":
            atoms.union(ids(a), ids(b))
            naive.union(a, b)
        elif kind == "expand":
            atoms.expand(ids(a), ids(b), ids(c))
            naive.expand(a, b, c)
        else:
            atoms.pin(ids(a), a)
            naive.pinned.add(a)
    return atoms, naive


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_classes_are_those_of_the_naive_model(steps: list[tuple[str, int, int, int]]) -> None:
    atoms, naive = _run(steps)
    assert classes(atoms, 12) == naive.classes(12)
    for atom in naive.pinned:
        assert atoms.pins(ids(atom))[0] != NOTHING


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_settling_ends_is_sound_and_happens_once(steps: list[tuple[str, int, int, int]]) -> None:
    atoms, naive = _run(steps)
    atoms.settle()
    coarse = classes(atoms, 12)
    assert all(any(fine <= whole for whole in coarse) for fine in naive.classes(12))
    pinned = {atom for atom in range(12) if atoms.pins(ids(atom))[0] != NOTHING}
    assert naive.pinned <= pinned
    version = atoms.version
    atoms.settle()
    assert atoms.version == version
    _removal_is_consistent(atoms, naive)


def _removal_is_consistent(atoms: Atoms, naive: Naive) -> None:
    """Removing any one free leaf keeps every pinned atom, and a conjunction goes exactly when a part goes."""
    leaves = np.unique(atoms.base(np.arange(12))[1])
    for leaf in leaves[atoms.pins(leaves) == NOTHING]:
        removed = np.zeros(len(atoms), bool)
        removed[leaf] = True
        kept = atoms.kept(removed)[atoms.find(np.arange(12))]
        assert all(kept[atom] for atom in naive.pinned)
        for whole, left, right in naive.parts:
            assert kept[whole] == (kept[left] and kept[right])
