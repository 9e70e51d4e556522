"""Wanda and NoWag on matrices small enough to score by hand (docs/methods.md#passes-that-mask)."""

from __future__ import annotations

import numpy as np

from graphprune.prune.masks import scores, treat
from graphprune.prune.masks.patterns import Pattern, keep_groups, keep_rows

WEIGHT = np.array([[1, -3, 2, 0.5]], dtype=np.float32)
NORMS = np.array([8.0, 1, 1, 4])


def test_wanda_by_hand() -> None:
    field = scores.wanda(WEIGHT, NORMS**2)
    np.testing.assert_allclose(field * 8, [[8, 3, 2, 2]])
    np.testing.assert_array_equal(keep_rows(field, 0.5), [[True, True, False, False]])
    np.testing.assert_array_equal(keep_groups(field, Pattern(2, 4)), [[True, True, False, False]])
    np.testing.assert_array_equal(keep_rows(scores.magnitude(WEIGHT), 0.5), [[False, True, True, False]])


def test_wanda_on_constant_inputs_is_magnitude() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 20)).astype(np.float32)
    expected = keep_rows(scores.magnitude(weight), 0.35)
    np.testing.assert_array_equal(keep_rows(scores.wanda(weight, np.full(20, 9.0)), 0.35), expected)


def test_wanda_ignores_scale_that_the_weight_takes_back() -> None:
    rng = np.random.default_rng(1)
    weight, squares = rng.standard_normal((6, 20)).astype(np.float32), rng.random(20) + 0.1
    before = keep_rows(scores.wanda(weight, squares), 0.5)
    np.testing.assert_array_equal(keep_rows(scores.wanda(weight, squares * 1e30), 0.5), before)
    moved, scaled = weight.copy(), squares.copy()
    moved[:, 3] /= 64
    scaled[3] *= 64**2
    np.testing.assert_array_equal(keep_rows(scores.wanda(moved, scaled), 0.5), before)
    assert not np.array_equal(
        keep_rows(scores.magnitude(moved), 0.5), keep_rows(scores.magnitude(weight), 0.5)
    )


def test_inputs_that_are_never_fed_are_worth_nothing() -> None:
    assert not scores.wanda(WEIGHT, np.zeros(4)).any()


def test_nowag_by_hand() -> None:
    rng = np.random.default_rng(2)
    weight, squares = rng.standard_normal((5, 8)).astype(np.float32), rng.random(8)
    normal = weight / np.linalg.norm(weight, axis=0)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    expected = normal**2 * squares / squares.max()
    np.testing.assert_allclose(scores.nowag(weight, squares), expected, rtol=1e-3)


def test_nowag_ignores_column_norms() -> None:
    weight = np.random.default_rng(3).standard_normal((5, 8)).astype(np.float32)
    scaled = weight * np.array([1, 100, 1, 1, 0.01, 1, 1, 1], dtype=np.float32)
    before, after = (scores.nowag(w, np.ones(8)) for w in (weight, scaled))
    np.testing.assert_allclose(before, after, rtol=1e-2)


def test_what_is_zero_already_goes_before_what_reads_nothing() -> None:
    """Both would score zero."""
    matrix = np.array([[[2.0, 0.0, 3.0]]], np.float32)
    found = treat.zeros_first(treat.by_block(matrix, np.array([[0.0, 4.0, 1.0]]), scores.wanda), matrix)
    assert np.argsort(found[0]).tolist() == [1, 0, 2] and found[0, 1] < found[0, 0]
