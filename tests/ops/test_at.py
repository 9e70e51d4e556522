"""Sizes that a count may use: known ones, zero among them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from graphprune.ops.counting import At, UnknownSizeError
from tests.proof.building import model

PRODUCT = next(iter(model("(float[n,6] x) => (float[n,4] y) { y = MatMul(x, w) }", w=(6, 4)).graph))


def at(*shape: tuple[int, int]) -> At:
    return At(PRODUCT, SimpleNamespace(shapes={PRODUCT.inputs[0]: list(shape)}))  # type: ignore[arg-type]


def test_a_size_of_zero_is_known() -> None:
    assert at((0, 0), (6, 6)).input(0) == (0, 6)
    assert at((1, 1), (6, 6)).input(0) == (1, 6)


@pytest.mark.parametrize("size", [(-1, -1), (0, 1), (0, -1), (2, 3)])
def test_a_size_that_is_not_one_number_is_not_known(size: tuple[int, int]) -> None:
    with pytest.raises(UnknownSizeError):
        at(size, (6, 6)).input(0)


def test_what_has_no_shape_or_is_not_there_has_no_size() -> None:
    for side, position in (("in", 1), ("in", 2), ("out", 0), ("out", 1)):
        with pytest.raises(UnknownSizeError):
            at((1, 1)).dims(side, position)
