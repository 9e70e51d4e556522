"""Second moments of few rows are damped as far as they are not to be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.prune.dual import RowSheet
from graphprune.prune.shrink import LEAST, damping, inverted
from graphprune.prune.surgeon import ColumnSheet, eliminate

Array = np.ndarray
COLUMNS = 60
SHARES = np.linspace(0, 0.95, 96)


def truth(seed: int) -> Array:
    """Inputs that a dozen causes explain, but for some noise."""
    mix = np.random.default_rng(seed).standard_normal((COLUMNS, 12)) / 3
    return mix @ mix.T + 0.2 * np.eye(COLUMNS)


def drawn(seed: int, rows: int) -> Array:
    draw = np.random.default_rng([seed, rows])
    x = draw.standard_normal((rows, COLUMNS)) @ np.linalg.cholesky(truth(seed)).T
    return x - x.mean(axis=0)


def told(second: Array, rows: int) -> float:
    return damping(rows, len(second), float(np.trace(second)), float((second @ second).trace()))


@pytest.mark.parametrize("rows", [20, 45, 90, 300])
def test_the_mix_is_about_as_near_to_the_truth_as_any(rows: int) -> None:
    ours, best = 0.0, np.zeros(len(SHARES))
    for seed in range(20):
        x, wanted = drawn(seed, rows), truth(seed)
        second = x.T @ x / rows
        level = np.trace(second) / COLUMNS * np.eye(COLUMNS)
        ridge = told(second, rows)
        ours += float(np.square((second + ridge * level) / (1 + ridge) - wanted).sum())
        best += [np.square((1 - s) * second + s * level - wanted).sum() for s in SHARES]
    assert ours < 1.05 * best.min() < 1.05 * best[0]


def test_many_rows_are_hardly_damped() -> None:
    x = drawn(0, 20_000)
    assert told(x.T @ x / len(x), len(x)) == LEAST


def test_a_single_column_is_hardly_damped() -> None:
    assert damping(10, 1, 3.0, 9.0) == LEAST


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_columns_are_damped_alike(seed: int) -> None:
    x, weight = drawn(seed, 40), np.random.default_rng(seed).standard_normal((5, COLUMNS))
    second, units = x.T @ x / len(x), np.arange(COLUMNS)
    columns = ColumnSheet(weight, inverted(second, told(second, len(x))), units, units)
    rows = RowSheet(weight, x, None, units, units)
    np.testing.assert_allclose(eliminate([rows], COLUMNS), eliminate([columns], COLUMNS), rtol=1e-3)


def lost(weight: Array, second: Array, gone: Array) -> float:
    """What the truth loses, once the rest makes up for what went as well as can be."""
    inverse = np.linalg.inv(np.linalg.inv(second)[np.ix_(gone, gone)])
    return float(np.einsum("ri,ij,rj->", weight[:, gone], inverse, weight[:, gone]))


def test_units_chosen_by_few_rows_are_missed_less_than_those_that_little_damping_chooses() -> None:
    ours = little = 0.0
    for seed in range(20):
        x, units = drawn(seed, 30), np.arange(COLUMNS)
        weight = np.random.default_rng([seed, 1]).standard_normal((5, COLUMNS))
        for ridge in (None, LEAST):
            order = np.argsort(eliminate([RowSheet(weight, x, ridge, units, units)], COLUMNS))
            value = lost(weight, truth(seed), order[:30])
            ours, little = (ours + value, little) if ridge is None else (ours, little + value)
    assert ours < 0.95 * little


@pytest.mark.parametrize("share", [0.0, 0.01])
@pytest.mark.parametrize("rows", [3, 200])
def test_the_last_part_of_an_inverse(share: float, rows: int) -> None:
    """Also where damping has to grow until there is one."""
    x = drawn(1, rows)
    second = x.T @ x / rows
    whole = inverted(second.copy(), share)
    np.testing.assert_allclose(inverted(second.copy(), share, 23), whole[23:, 23:], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(whole, whole.T)
    if rows > COLUMNS:
        damped = second + share * np.diagonal(second).mean() * np.eye(COLUMNS)
        np.testing.assert_allclose(whole @ damped, np.eye(COLUMNS), atol=1e-9)
