"""Least squares on moments: what must hold of repairs (docs/methods.md#repair)."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.prune.repair.solve import (
    Moments,
    dense_moments,
    matched,
    observed,
    refit,
    ridge,
)

Doubles = np.ndarray
SEEDS = pytest.mark.parametrize("seed", range(12))


def one(array: object) -> Doubles:
    """A matrix or vector as one block."""
    return np.asarray(array, np.float64)[None]


def samples(seed: int, columns: int = 12, count: int = 300, blocks: int = 1) -> Doubles:
    """Correlated inputs with means, [blocks, samples, columns]."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((blocks, columns, columns))
    return rng.standard_normal((blocks, count, columns)) @ mix + rng.standard_normal((blocks, 1, columns))


def layer(seed: int, rows: int = 8, columns: int = 12, blocks: int = 1) -> tuple[Doubles, Doubles]:
    """A weight and a mask that keeps half of its columns."""
    rng = np.random.default_rng([seed, 1])
    keep = np.array([rng.permutation(np.arange(columns) < columns // 2) for _ in range(blocks)])
    return rng.standard_normal((blocks, rows, columns)), keep


def about_itself(weight: Doubles, x: Doubles) -> Moments:
    about = x - x.mean(axis=1, keepdims=True)
    return dense_moments(weight, about.transpose(0, 2, 1) @ about, x.sum(axis=1), x.shape[1])


def centred(weight: Doubles, moments: Moments, keep: np.ndarray) -> Doubles:
    """The loss of the refit about the means, all but undamped, with the bias that restores them."""
    (found,) = moments.refits(weight, keep, (0,), True)
    return moments.loss(found, moments.offset(found))


def test_the_tiny_case() -> None:
    """H=[[2,1],[1,2]], W=[[1,2],[3,4]]: without column 0, column 1 becomes [2.5, 5.5] at a loss of 7.5."""
    gram, weight = one([[2, 1], [1, 2]]), one([[1, 2], [3, 4]])
    found = refit(weight, gram, None, np.array([[False, True]]), damping=0)
    np.testing.assert_allclose(found[0], [[0, 2.5], [0, 5.5]])
    change = found - weight
    assert np.einsum("brc,bcd,brd->", change, gram, change) / 2 == pytest.approx(7.5)


@SEEDS
def test_the_update_is_the_damped_obs_update(seed: int) -> None:
    """W_K + W_P H_PK H_KK^-1 with H damped by lambda times the mean of its kept diagonal."""
    weight, keep = layer(seed)
    gram = about_itself(weight, samples(seed)).raw.xx
    kept, gone = np.flatnonzero(keep[0]), np.flatnonzero(~keep[0])
    h = gram[0] + 0.05 * np.diagonal(gram[0])[kept].mean() * np.eye(12)
    update = h[np.ix_(gone, kept)] @ np.linalg.inv(h[np.ix_(kept, kept)])
    wanted = weight[0][:, kept] + weight[0][:, gone] @ update
    found = refit(weight, gram, None, keep, damping=0.05)
    np.testing.assert_allclose(found[0][:, kept], wanted, rtol=1e-9)
    assert not found[0][:, gone].any()


@SEEDS
def test_the_pruned_input_and_the_dense_target(seed: int) -> None:
    """Without damping: least squares of Y on x' by another road."""
    weight, keep = layer(seed)
    x = samples(seed)
    other = x + 0.3 * samples(seed + 100)
    y = x @ weight.transpose(0, 2, 1)
    moments = observed(other, y).raw
    found = refit(weight, moments.xx, moments.yx, keep, damping=0)
    expected = np.linalg.lstsq(other[0][:, keep[0]], y[0], rcond=None)[0].T
    np.testing.assert_allclose(found[0][:, keep[0]], expected, rtol=1e-6, atol=1e-8)


@SEEDS
def test_blocks_are_refitted_like_single_weights(seed: int) -> None:
    weight, keep = layer(seed, rows=3, columns=6, blocks=4)
    moments = observed(samples(seed, 6, 200, 4), samples(seed + 50, 3, 200, 4))
    together = refit(weight, moments.xx, moments.yx, keep, 0.02)
    for block in range(4):
        at = slice(block, block + 1)
        single = refit(weight[at], moments.xx[at], moments.yx[at], keep[at], 0.02)
        np.testing.assert_allclose(together[at], single, rtol=1e-8, atol=1e-10)


def test_a_strong_ridge_keeps_the_old_weights_and_a_dead_input_keeps_its_column() -> None:
    weight, keep = layer(0)
    x = samples(0)
    x[:, :, np.flatnonzero(keep[0])[0]] = 0
    gram = about_itself(weight, x).xx
    np.testing.assert_allclose(
        refit(weight, gram, None, keep, 1e9)[0][:, keep[0]], weight[0][:, keep[0]], rtol=1e-6
    )
    column = np.flatnonzero(keep[0])[0]
    np.testing.assert_allclose(refit(weight, gram, None, keep, 0.01)[0][:, column], weight[0][:, column])
    assert np.array_equal(refit(weight, np.zeros_like(gram), None, keep), np.where(keep[:, None], weight, 0))


def test_nothing_kept_is_zero() -> None:
    weight, _ = layer(0)
    for blocks in (1, 3):
        w = np.repeat(weight, blocks, 0)
        found = refit(w, about_itself(w, samples(0, blocks=blocks)).xx, None, np.zeros((blocks, 12), bool))
        assert not found.any()


@SEEDS
def test_a_constant_channel_costs_nothing_with_its_bias(seed: int) -> None:
    weight, _ = layer(seed)
    x = samples(seed)
    x[:, :, 3] = 2.5
    keep = np.arange(12)[None] != 3
    sliced = np.where(keep[:, None], weight, 0)
    cut = x @ sliced.transpose(0, 2, 1) + about_itself(weight, x).offset(sliced)
    np.testing.assert_allclose(cut, x @ weight.transpose(0, 2, 1), atol=1e-9)


def test_the_error_after_bias_is_the_fluctuation() -> None:
    """Uncorrelated inputs: the sum over removed columns of v_j |W_:j|^2."""
    weight, keep = layer(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 20_000, 12)) * np.linspace(0.5, 2, 12) + 3 * rng.standard_normal(12)
    moments = about_itself(weight, x)
    sliced = np.where(keep[:, None], weight, 0)
    measured = moments.loss(sliced, moments.offset(sliced)).sum()
    predicted = (x.var(axis=1) * (weight**2).sum(axis=1))[~keep].sum()
    assert measured == pytest.approx(predicted, rel=0.03)
    assert measured < 0.5 * moments.loss(sliced, np.zeros((1, 8))).sum()


@SEEDS
def test_the_ladder(seed: int) -> None:
    """Centred refit with bias <= {refit, bias} <= slicing, on the calibration moments; strict in general."""
    weight, keep = layer(seed)
    x = samples(seed)
    moments = about_itself(weight, x)
    none = np.zeros((1, 8))
    sliced = np.where(keep[:, None], weight, 0)
    slicing = moments.loss(sliced, none).sum()
    bias = moments.loss(sliced, moments.offset(sliced)).sum()
    plain = moments.loss(refit(weight, moments.raw.xx, None, keep, 0), none).sum()
    both = centred(weight, moments, keep).sum()
    assert both < min(plain, bias) <= max(plain, bias) < slicing


@SEEDS
def test_the_ladder_holds_for_a_pruned_prefix_too(seed: int) -> None:
    weight, keep = layer(seed)
    x = samples(seed)
    moments = observed(x + 0.5 * samples(seed + 7), x @ weight.transpose(0, 2, 1))
    sliced = np.where(keep[:, None], weight, 0)
    steps = [
        centred(weight, moments, keep).sum(),
        moments.loss(sliced, moments.offset(sliced)).sum(),
        moments.loss(sliced, np.zeros((1, 8))).sum(),
    ]
    assert steps == sorted(steps)


@SEEDS
def test_the_loss_is_the_mean_square(seed: int) -> None:
    weight, _ = layer(seed)
    x, y = samples(seed), samples(seed + 9, columns=8)
    bias = np.random.default_rng(seed).standard_normal((1, 8))
    wanted = ((x @ weight.transpose(0, 2, 1) + bias[:, None] - y) ** 2).mean(axis=1)
    np.testing.assert_allclose(observed(x, y).loss(weight, bias), wanted, rtol=1e-9)


@SEEDS
def test_matching_restores_mean_and_spread(seed: int) -> None:
    weight, keep = layer(seed)
    x = samples(seed)
    y = x @ weight.transpose(0, 2, 1)
    found, bias = matched(np.where(keep[:, None], weight, 0), observed(x, y), 0.01, 100)
    again = x @ found.transpose(0, 2, 1) + bias
    np.testing.assert_allclose(again.mean(axis=1), y.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(again.std(axis=1), y.std(axis=1), rtol=1e-9)


def test_matching_stays_within_its_bounds() -> None:
    weight = one([[1.0, 0.0], [10.0, 0.0], [0.0, 0.0]])
    x = samples(1, 2)
    y = x @ one([[9.0, 0.0], [0.1, 0.0], [1.0, 0.0]]).transpose(0, 2, 1)
    found, _ = matched(weight, observed(x, y))
    np.testing.assert_allclose(found, one([[2.0, 0.0], [5.0, 0.0], [0.0, 0.0]]))


def test_moments_add_up() -> None:
    x, y = samples(0), samples(1, columns=3)
    whole, parts = observed(x, y), observed(x[:, :100], y[:, :100]) + observed(x[:, 100:], y[:, 100:])
    for name in ("count", "x", "y", "xx", "yx", "yy"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name))


def test_moments_of_parts_add_up_where_parts_differ_more_than_samples() -> None:
    """What lies between two means is a million times what varies about them."""
    x, y = samples(0), samples(1, columns=3)
    x[:, 100:] += 1e6
    whole, parts = observed(x, y), observed(x[:, :100], y[:, :100]) + observed(x[:, 100:], y[:, 100:])
    np.testing.assert_allclose(parts.xx, whole.xx, rtol=1e-9)
    np.testing.assert_allclose(parts.yx, whole.yx, rtol=1e-6)


def test_a_block_without_a_unique_solution_gets_the_smallest_and_the_others_theirs() -> None:
    gram = np.array([[[1.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 4.0]]])
    cross = np.array([[[2.0, 2.0]], [[2.0, 8.0]]])
    found = refit(np.zeros((2, 1, 2)), gram, cross, np.ones((2, 2), bool), 0.0)
    np.testing.assert_allclose(found, [[[1.0, 1.0]], [[1.0, 2.0]]], atol=1e-9)


def test_a_ridge_is_a_share_of_the_mean_and_something_where_nothing_varies() -> None:
    assert ridge(np.array([1.0, 3.0]), 0.25) == 0.5
    assert ridge(np.array([1.0, 0.0]), 0.25) == 0.125
    assert ridge(np.zeros(2), 0.25) == ridge(np.zeros(0), 0.25) == 1.0


@pytest.mark.parametrize("biased", [True, False])
def test_where_nothing_was_seen_weights_stay(biased: bool) -> None:
    weight, keep = layer(0)
    moments = observed(np.zeros((1, 0, 12)), np.zeros((1, 0, 8)))
    (found,) = moments.refits(weight, keep, (0.01,), biased)
    np.testing.assert_allclose(found, weight * keep[:, None])
    for array in (moments.offset(found), moments.loss(found, np.zeros((1, 8))), moments.spread(found)):
        np.testing.assert_array_equal(array, 0)


def test_a_row_that_never_varies_is_not_scaled() -> None:
    """There is nothing to scale, and nothing to scale it to; the others get their spread back."""
    x = samples(0)
    weight, _ = layer(0)
    y = 1.5 * x @ weight.transpose(0, 2, 1)
    y[:, :, 2] = 4.0
    still = weight.copy()
    still[0, 2] = 0
    found, bias = matched(still, observed(x, y))
    np.testing.assert_array_equal(found[0, 2], 0)
    assert bias[0, 2] == pytest.approx(4.0)
    np.testing.assert_allclose(np.delete(found, 2, axis=1), 1.5 * np.delete(weight, 2, axis=1), rtol=1e-9)
