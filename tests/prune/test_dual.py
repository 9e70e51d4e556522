"""The side of the rows gives what the side of the columns gives: repair, ridge, losses and eliminations."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.prune.dual import RowSheet
from graphprune.prune.repair.fit import choose_damping, fit
from graphprune.prune.repair.samples import Samples
from graphprune.prune.repair.solve import Moments, observed
from graphprune.prune.shrink import inverted
from graphprune.prune.surgeon import ColumnSheet, Sheet, eliminate

Array = np.ndarray
SEEDS = pytest.mark.parametrize("seed", range(6))


def drawn(
    seed: int, rows: int = 20, columns: int = 60, outputs: int = 7, blocks: int = 1
) -> tuple[Array, Array, Array]:
    """Inputs behind a cut with a mean, wanted results that they nearly explain, and a dense weight."""
    draw = np.random.default_rng(seed)
    mix = draw.standard_normal((blocks, 12, columns)) / 3
    x = (
        draw.standard_normal((blocks, rows, 12)) @ mix
        + 0.2 * draw.standard_normal((blocks, rows, columns))
        + 3
    )
    weight = draw.standard_normal((blocks, outputs, columns)) / np.sqrt(columns)
    y = x @ weight.transpose(0, 2, 1) + 0.3 * draw.standard_normal((blocks, rows, outputs))
    return x.astype(np.float32), y.astype(np.float32), weight


def halves(seed: int, columns: int = 60, blocks: int = 1) -> Array:
    draw = np.random.default_rng([seed, 1])
    return np.array([draw.permutation(np.arange(columns) < columns // 2) for _ in range(blocks)])


def parts(x: Array, y: Array) -> tuple[list[Moments], list[Samples]]:
    """Four folds on either side, as one sums and the other keeps them."""
    pieces = [(x[:, at : at + 5], y[:, at : at + 5]) for at in range(0, x.shape[1], 5)]
    return [observed(a.astype(float), b.astype(float)) for a, b in pieces], [Samples(a, b) for a, b in pieces]


@SEEDS
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_refit_of_rows_is_the_refit_of_moments(seed: int, biased: bool, blocks: int) -> None:
    x, y, weight = drawn(seed, blocks=blocks)
    keep, live = halves(seed, blocks=blocks), np.ones((blocks, 7), bool)
    moments, rows = parts(x, y)
    how = frozenset({"refit"})
    primal, dual = (fit(weight, side, keep, live, how, biased) for side in (moments, rows))
    assert choose_damping(weight, moments, keep, live, biased) == choose_damping(
        weight, rows, keep, live, biased
    )
    assert dual.after == pytest.approx(primal.after, rel=0.01)
    assert dual.before == pytest.approx(primal.before, rel=0.01)
    np.testing.assert_allclose(dual.weight, primal.weight, atol=1e-4 * np.abs(weight).max())
    np.testing.assert_allclose(dual.bias, primal.bias, atol=1e-4 * np.abs(primal.bias).max())
    assert not dual.weight[np.broadcast_to(~keep[:, None], weight.shape)].any()


@SEEDS
def test_matching_is_the_same_on_both_sides(seed: int) -> None:
    x, y, weight = drawn(seed)
    moments, rows = parts(x, y)
    given = (halves(seed), np.ones((1, 7), bool), frozenset({"match"}), True)
    primal, dual = fit(weight, moments, *given), fit(weight, rows, *given)
    np.testing.assert_allclose(dual.weight, primal.weight, rtol=1e-4)
    np.testing.assert_allclose(dual.bias, primal.bias, rtol=1e-3, atol=1e-3)


def sheets(seed: int, units: Array, columns: Array, rows: int, outputs: int = 7) -> tuple[Sheet, Sheet]:
    x, _, weight = drawn(seed, rows, outputs=outputs)
    about = (x[0] - x[0].mean(axis=0)).astype(np.float32)
    covariance = about.astype(float).T @ about / rows
    return (
        ColumnSheet(weight[0] / 3, inverted(covariance, 0.01), units, columns),
        RowSheet(weight[0].astype(np.float32), about, 0.01, units, columns, 1 / 9),
    )


@SEEDS
@pytest.mark.parametrize("rows", [4, 20, 55, 80])
@pytest.mark.parametrize("owned", [1, 5, 12])
def test_an_elimination_by_rows_loses_what_one_by_columns_loses(seed: int, rows: int, owned: int) -> None:
    """Units of fewer and of more columns than there are rows, in a mixed order, with columns that stay."""
    columns = np.random.default_rng([seed, 2]).permutation(60)[: 48 // owned * owned]
    units = np.arange(len(columns)) % (48 // owned)
    size = 48 // owned
    primal, dual = (eliminate([side], size) for side in sheets(seed, units, columns, rows))
    np.testing.assert_allclose(dual, primal, rtol=0.01)
    assert np.array_equal(np.argsort(dual), np.argsort(primal))


@SEEDS
@pytest.mark.parametrize("rows", [2, 5, 20, 90])
@pytest.mark.parametrize("outputs", [1, 40])
def test_units_that_leave_together(seed: int, rows: int, outputs: int) -> None:
    """More columns at once than there are rows, and fewer; weights of fewer and of more rows than data."""
    draw = np.random.default_rng([seed, 3])
    units, columns = np.repeat(np.arange(12), 4), draw.permutation(60)[:48]
    primal, dual = sheets(seed, units, columns, rows, outputs)
    left = np.ones(12, bool)
    for gone in np.split(draw.permutation(12), [2, 5, 10])[:3]:
        np.testing.assert_allclose(dual.costs(12)[left], primal.costs(12)[left], rtol=1e-3)
        for side in (primal, dual):
            side.remove(gone)
        left[gone] = False
    np.testing.assert_allclose(dual.costs(12)[left], primal.costs(12)[left], rtol=1e-3)


@SEEDS
def test_units_that_own_unequally_many_columns(seed: int) -> None:
    units = np.sort(np.random.default_rng(seed).integers(0, 9, 60))
    primal, dual = (eliminate([side], 9) for side in sheets(seed, units, np.arange(60), 6))
    np.testing.assert_allclose(dual, primal, rtol=0.01, atol=1e-12)


def test_rows_far_from_zero_are_judged_as_exactly_as_rows_about_it() -> None:
    """Numbers that single precision holds, in a sum that it does not: what is common to all rows cancels."""
    draw = np.random.default_rng(0)
    about = draw.integers(-64, 64, (1, 50, 40)) / 1024
    weight = draw.integers(-7, 8, (1, 6, 40)).astype(np.float32)
    weight[..., 0] -= weight.sum(axis=-1)  # a shift of all inputs changes no result
    y = about @ weight.transpose(0, 2, 1)
    seen = Samples((about + 1024).astype(np.float32), y.astype(np.float32))
    np.testing.assert_array_equal(seen.x, about + 1024)
    best = seen.offset(weight)
    np.testing.assert_allclose(seen.loss(weight, best), 0, atol=1e-9)
    np.testing.assert_allclose(seen.loss(weight, best + 0.5), 0.25, rtol=1e-6)
    np.testing.assert_allclose(seen.spread(weight), y.var(axis=1), rtol=1e-4)


@pytest.mark.parametrize("shift", [8, 1024])
def test_a_refit_of_rows_far_from_zero_is_that_of_rows_about_it(shift: int) -> None:
    """A bias takes the shift up; a weight that has it multiplied out first has lost its last digits."""
    draw = np.random.default_rng(0)
    about = draw.integers(-64, 64, (1, 50, 80)) / 1024
    weight, keep = draw.integers(-7, 8, (1, 6, 80)).astype(np.float32), halves(0, columns=80)
    y = about @ weight.transpose(0, 2, 1)
    near, far = (Samples((about + by).astype(np.float32), y.astype(np.float32)) for by in (0, shift))
    (wanted,), (found,) = (seen.refits(weight, keep, (0.01,), True) for seen in (near, far))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * shift)


@pytest.mark.parametrize("biased", [True, False])
def test_what_a_ridge_is_measured_by_is_about_the_mean_where_a_bias_takes_it_up(biased: bool) -> None:
    x, y, _ = drawn(0, blocks=2)
    seen = Samples(x, y)
    for block, columns in ((0, slice(3, 9)), (1, slice(None))):
        wanted = x[block][:, columns].astype(float)
        wanted -= wanted.mean(axis=0) if biased else 0
        np.testing.assert_allclose(seen.about(block, biased, columns), wanted, atol=1e-12)
        np.testing.assert_allclose(
            seen.metric(block, columns, biased), wanted.T @ wanted, rtol=1e-9, atol=1e-9
        )
