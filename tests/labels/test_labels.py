"""Labels of axes: products are refined, tied and flattened as integers factor."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.labels.algebra import Algebra, Factor, Label, chain, fixed, is_fixed, prefixes, size_of
from graphprune.labels.atoms import NOTHING, Atoms


@pytest.fixture
def algebra() -> Algebra:
    return Algebra(Atoms())


def sizes(label: Label) -> list[int]:
    return [factor.size[0] for factor in label]


def leaves(algebra: Algebra, label: Label) -> list[set[int]]:
    """The leaves that remove each slot, straight from the definition: the union over the factors."""
    slots: list[set[int]] = [set()]
    for factor in label:
        if factor.atoms is None:
            own: list[set[int]] = [set() for _ in range(factor.size[0])]
        else:
            position, leaf, _ = algebra.atoms.base(factor.atoms)
            own = [set(leaf[position == i].tolist()) for i in range(factor.size[0])]
        slots = [a | b for a in slots for b in own]
    return slots


def test_a_size_of_one_has_no_factor(algebra: Algebra) -> None:
    assert algebra.fresh((1, 1), "a") == () and size_of(()) == (1, 1) and is_fixed(())


def test_the_same_key_gives_the_same_atoms(algebra: Algebra) -> None:
    one, two = algebra.fresh((4, 4), "a"), algebra.fresh((4, 4), "a")
    assert one[0].atoms is not None and one[0].atoms is two[0].atoms


def test_a_symbolic_size_is_fixed(algebra: Algebra) -> None:
    assert is_fixed(algebra.fresh((3, 5), "a"))


def test_an_axis_is_cut_where_it_is_asked(algebra: Algebra) -> None:
    axis = algebra.fresh((12, 12), "a")
    cut = algebra.refine(axis, [(1, 1), (3, 3), (12, 12)])
    assert sizes(cut) == [3, 4]
    assert [len(slot) for slot in leaves(algebra, axis)] == [2] * 12
    assert leaves(algebra, axis) == leaves(algebra, cut)


def test_a_second_cut_refines_the_first(algebra: Algebra) -> None:
    axis = algebra.fresh((12, 12), "a")
    algebra.refine(axis, [(2, 2)])
    again = algebra.refine(algebra.normal(axis), [(2, 2), (4, 4)])
    assert sizes(again) == [2, 2, 3]
    assert sizes(algebra.normal(axis)) == [2, 2, 3]


def test_tied_axes_are_cut_together(algebra: Algebra) -> None:
    a, b = algebra.fresh((6, 6), "a"), algebra.fresh((6, 6), "b")
    algebra.equate(a, b, 0)
    algebra.refine(a, [(2, 2)])
    assert sizes(algebra.normal(b)) == [2, 3]


def test_axes_whose_cuts_do_not_nest_are_pinned(algebra: Algebra) -> None:
    a, b = algebra.fresh((6, 6), "a"), algebra.fresh((6, 6), "b")
    algebra.equate(algebra.refine(a, [(2, 2)]), algebra.refine(b, [(3, 3)]), 9)
    algebra.atoms.settle()
    for label in (a, b):
        slots = leaves(algebra, label)
        assert all((algebra.atoms.pins(np.array(sorted(slot))) == 9).all() for slot in slots)


def test_an_axis_tied_to_a_fixed_one_is_pinned_with_its_reason(algebra: Algebra) -> None:
    a = algebra.fresh((6, 6), "a")
    algebra.equate(a, fixed((6, 6), 4), 9)
    assert a[0].atoms is not None and (algebra.atoms.pins(a[0].atoms) == 4).all()


def test_only_the_fixed_factor_of_a_product_pins(algebra: Algebra) -> None:
    a, h = algebra.fresh((6, 6), "a"), algebra.fresh((2, 2), "h")
    algebra.equate(a, (*h, *fixed((3, 3), 4)), 9)
    algebra.atoms.settle()
    assert leaves(algebra, a) == [leaves(algebra, h)[i // 3] for i in range(6)]
    assert h[0].atoms is not None and (algebra.atoms.pins(h[0].atoms) == NOTHING).all()


def test_a_flattened_product_keeps_its_leaves(algebra: Algebra) -> None:
    h, d = algebra.fresh((2, 2), "h"), algebra.fresh((3, 3), "d")
    flat = algebra.flat((*h, *d), "flat")
    assert flat is not None
    assert leaves(algebra, (Factor((6, 6), flat),)) == leaves(algebra, (*h, *d))
    assert sizes(algebra.normal((Factor((6, 6), flat),))) == [2, 3]


def test_a_fixed_axis_has_nothing_to_flatten(algebra: Algebra) -> None:
    assert algebra.flat(fixed((6, 6)), "flat") is None


def test_a_symbolic_factor_keeps_its_place(algebra: Algebra) -> None:
    label = (*fixed((7, 11)), *algebra.fresh((6, 6), "a"))
    cut = algebra.refine(label, [(7, 11), (14, 22)])
    assert [factor.size for factor in cut] == [(7, 11), (2, 2), (3, 3)]


def test_prefix_products_merge_into_a_divisor_chain() -> None:
    assert chain([(1, 1), (2, 2), (12, 12)], [(1, 1), (4, 4), (12, 12)]) == [(1, 1), (2, 2), (4, 4), (12, 12)]
    assert chain([(1, 1), (2, 2), (12, 12)], [(1, 1), (3, 3), (12, 12)]) is None


FACTORS = st.lists(st.sampled_from([2, 2, 3, 4]), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(FACTORS, st.data())
def test_equated_axes_are_removed_slot_by_slot_together(factors: list[int], data: st.DataObject) -> None:
    """Two axes with cuts at random places: tied, they have the same leaves at every slot, or are pinned."""
    algebra, whole = Algebra(Atoms()), prod(factors)
    labels = []
    for name in ("a", "b"):
        order = data.draw(st.permutations(factors))
        count = data.draw(st.integers(0, len(order) - 1))
        boundaries = [(prod(order[: i + 1]),) * 2 for i in range(count)]
        labels.append(algebra.refine(algebra.fresh((whole, whole), name), boundaries))
    nested = chain(prefixes(labels[0]), prefixes(labels[1])) is not None
    algebra.equate(labels[0], labels[1], 3)
    algebra.atoms.settle()
    if nested:
        assert leaves(algebra, labels[0]) == leaves(algebra, labels[1])
        assert size_of(algebra.normal(labels[0])) == (whole, whole)
    else:
        for label in labels:
            assert all((algebra.atoms.pins(f.atoms) == 3).all() for f in label if f.atoms is not None)


@settings(max_examples=60, deadline=None)
@given(FACTORS)
def test_refining_never_changes_what_removes_a_slot(factors: list[int]) -> None:
    algebra, whole = Algebra(Atoms()), prod(factors)
    axis = algebra.fresh((whole, whole), "a")
    cut = algebra.refine(axis, [(prod(factors[: i + 1]),) * 2 for i in range(len(factors))])
    assert sizes(cut) == factors
    assert leaves(algebra, axis) == leaves(algebra, cut)
    assert len({leaf for slot in leaves(algebra, axis) for leaf in slot}) == sum(factors)
    assert np.prod(sizes(algebra.normal(axis))) == whole
