"""What a cut leaves of an axis: of a product of factors, of fixed ones, of what nothing touches."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes.kept import Kept
from graphprune.labels.algebra import Factor, Label

from .claims import sketch


def test_slots_of_an_axis_are_counted_by_its_factors_fixed_or_not() -> None:
    """A Group of six Units that lose two, beside fixed factors of several sizes."""
    analysis = sketch(
        "(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n b = Relu(a)\n y = MatMul(b, v) }",
        u=(4, 6),
        v=(6, 3),
    )
    (group,) = analysis.prunable
    kept = Kept(analysis, {group.id: (0, 2, 3, 5)})
    cut, two, three = Factor((6, 6), group.atoms), Factor((2, 2)), Factor((3, 3))
    stay = np.array([True, False, True, True, False, True])
    cases: list[tuple[Label, object, bool]] = [
        ((), [True], False),
        ((two,), [True] * 2, False),
        ((three,), [True] * 3, False),
        ((two, three), [True] * 6, False),
        ((cut,), stay, True),
        ((two, cut), np.tile(stay, 2), True),
        ((cut, three), np.repeat(stay, 3), True),
    ]
    for label, mask, touched in cases:
        np.testing.assert_array_equal(kept.mask(label), mask)
        assert kept.count(label) == np.sum(mask) and kept.touches(label) == touched


@pytest.mark.parametrize("cuts", [{}, {"another": (0,)}])
def test_what_no_cut_names_stays(cuts: dict[str, tuple[int, ...]]) -> None:
    analysis = sketch(
        "(float[n,4] x) => (float[n,3] y) { a = MatMul(x, u)\n y = MatMul(a, v) }", u=(4, 6), v=(6, 3)
    )
    (group,) = analysis.prunable
    label = (Factor((6, 6), group.atoms),)
    kept = Kept(analysis, cuts)
    assert kept.mask(label).all() and kept.count(label) == 6 and not kept.touches(label)
