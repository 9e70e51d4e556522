"""SparseGPT and the masked refit (docs/methods.md#pass-sparsegpt)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphprune.prune.masks import scores
from graphprune.prune.masks.patterns import (
    Pattern,
    keep_all_but,
    keep_groups,
    keep_matrix,
    keep_rows,
    removed_count,
)
from graphprune.prune.masks.refit import loss, refit
from graphprune.prune.masks.sweep import damped, factor, sweep

from .layers import layer, least_squares

FREE = Pattern()
TWO_OF_FOUR = Pattern(2, 4)


def test_factor_is_the_upper_root_of_the_inverse() -> None:
    _, gram = layer(0, 1, 24)
    upper = factor(gram, 0.01)
    np.testing.assert_array_equal(upper, np.triu(upper))
    np.testing.assert_allclose(upper.T @ upper @ damped(gram, 0.01), np.eye(24), atol=1e-9)


def test_t4_white_inputs_give_magnitude_per_block() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 300)).astype(np.float32)
    swept, keep = sweep(weight, np.eye(300), 0.5, FREE, damping=0.0)
    for start in range(0, 300, 128):
        block = slice(start, start + 128)
        np.testing.assert_array_equal(keep[:, block], keep_matrix(np.abs(weight[:, block]), 0.5))
    np.testing.assert_array_equal(swept, np.where(keep, weight, 0))


def test_t4_uncorrelated_inputs_give_wanda_under_two_of_four() -> None:
    rng = np.random.default_rng(1)
    weight, squares = rng.standard_normal((6, 140)).astype(np.float32), rng.random(140) + 0.1
    swept, keep = sweep(weight, np.diag(squares), 0.0, TWO_OF_FOUR, damping=0.0)
    np.testing.assert_array_equal(keep, keep_groups(scores.wanda(weight, squares), TWO_OF_FOUR))
    np.testing.assert_array_equal(swept, np.where(keep, weight, 0))


def test_t4_two_columns_by_hand() -> None:
    weight, gram = np.array([[0.1, 2.0]], dtype=np.float32), np.array([[2.0, 0.6], [0.6, 1.0]])
    swept, keep = sweep(weight, gram, 0.5, FREE, damping=0.0)
    assert keep.tolist() == [[False, True]]
    np.testing.assert_allclose(swept, [[0, 2.0 + 0.1 * 0.6 / 1.0]], rtol=1e-6)


@pytest.mark.parametrize("pattern", [FREE, TWO_OF_FOUR, Pattern(1, 4), Pattern(3, 6)])
@pytest.mark.parametrize("columns", [36, 156])
def test_the_sweep_is_the_textbook_loop(pattern: Pattern, columns: int) -> None:
    """One column after another, every later column updated at once."""
    weight, gram = layer(5, 7, columns, 400)
    swept, keep = sweep(weight, gram, 0.4, pattern)
    upper, work = factor(gram, 0.01), weight.astype(np.float64)
    block = 128 - 128 % pattern.m
    for j in range(columns):
        if pattern.structured and j % pattern.m == 0:
            ranks = (work[:, j : j + pattern.m] / np.diagonal(upper)[j : j + pattern.m]) ** 2
            np.testing.assert_array_equal(keep[:, j : j + pattern.m], keep_groups(ranks, pattern))
        if not pattern.structured and j % block == 0:
            part = slice(j, min(j + block, columns))
            ranks = (work[:, part] / np.diagonal(upper)[part]) ** 2
            due = [removed_count(len(weight) * at, 0.4) for at in (part.start, part.stop)]
            np.testing.assert_array_equal(keep[:, part], keep_all_but(ranks, due[1] - due[0]))
        error = np.where(keep[:, j], 0, work[:, j]) / upper[j, j]
        work[:, j:] -= error[:, None] * upper[j, j:]
    np.testing.assert_allclose(swept, np.where(keep, work, 0), atol=1e-4)


def test_the_sweep_counts_exactly_and_keeps_zeros() -> None:
    weight, gram = layer(2, 16, 96, 200)
    weight[:, ::5] = 0
    for pattern in (FREE, TWO_OF_FOUR):
        swept, keep = sweep(weight, gram, 0.5, pattern)
        assert not keep[weight == 0].any()
        assert not swept[~keep].any()
        assert (~keep).sum() == keep.size // 2 if pattern is FREE else (~keep).sum() >= keep.size // 2


def test_a_column_that_is_never_fed_goes() -> None:
    weight, gram = layer(3, 4, 12)
    gram[5], gram[:, 5] = 0, 0
    swept, _ = sweep(weight, gram, 0.25, FREE)
    assert np.isfinite(swept).all() and not swept[:, 5].any()


def methods(weight: np.ndarray, gram: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    magnitude = keep_rows(scores.magnitude(weight), 0.5)
    wanda = keep_rows(scores.wanda(weight, np.diagonal(gram)), 0.5)
    swept, keep = sweep(weight, gram, 0.5, FREE)
    return {
        "magnitude": (np.where(magnitude, weight, 0), magnitude),
        "wanda": (np.where(wanda, weight, 0), wanda),
        "sparsegpt": (swept, keep),
    }


def test_t5_the_refit_is_never_worse_and_the_sweep_is_better_on_average() -> None:
    means: dict[str, list[float]] = {}
    for seed in range(120):
        weight, gram = layer(seed, 8, 16)
        true = damped(gram, 0.01)
        for name, (value, keep) in methods(weight, gram).items():
            fitted = refit(weight, gram, keep, start=value)
            before, after = loss(weight, value, true), loss(weight, fitted, true)
            assert (after <= before * (1 + 1e-5)).all(), (seed, name)  # the theorem, for every row
            assert not fitted[~keep].any()
            means.setdefault(name, []).append(before.sum())
            means.setdefault(name + " refit", []).append(after.sum())
    mean = {name: np.mean(values) for name, values in means.items()}
    assert mean["sparsegpt"] < mean["wanda"] < mean["magnitude"]
    assert mean["wanda refit"] < mean["sparsegpt"]
    assert mean["sparsegpt refit"] < mean["sparsegpt"]


def test_t5_two_of_four_against_brute_force() -> None:
    pairs = [np.isin(range(4), pair) for pair in itertools.combinations(range(4), 2)]
    masks = [np.concatenate(both)[None] for both in itertools.product(pairs, pairs)]
    assert len(masks) == 36
    totals = np.zeros(4)
    for seed in range(60):
        weight, gram = layer(seed, 1, 8)
        true = damped(gram, 0.01)
        optimum = min(loss(weight, least_squares(weight, true, mask), true)[0] for mask in masks)
        keep = keep_groups(scores.wanda(weight, np.diagonal(gram)), TWO_OF_FOUR)
        wanda, swept = np.where(keep, weight, 0), sweep(weight, gram, 0.5, TWO_OF_FOUR)[0]
        losses = [optimum, *(loss(weight, v, true)[0] for v in (refit(weight, gram, keep), swept, wanda))]
        assert min(losses) >= optimum * (1 - 1e-6)
        totals += losses
    assert np.all(np.diff(totals) > 0), totals  # optimum < wanda's mask refitted < sparsegpt < wanda


def test_t6_conjugate_gradients_fall_to_the_exact_refit() -> None:
    weight, gram = layer(11, 32, 64, 512)
    weight = weight.astype(np.float64)
    keep = keep_rows(scores.wanda(weight, np.diagonal(gram)), 0.5)
    true = damped(gram, 0.01)
    losses = [
        loss(weight, refit(weight, gram, keep, iterations=n), true).sum() for n in (0, 1, 2, 5, 10, 20, 60)
    ]
    assert losses[0] == pytest.approx(loss(weight, np.where(keep, weight, 0), true).sum())
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(losses))
    exact = loss(weight, least_squares(weight, true, keep), true).sum()
    assert losses[5] <= exact * 1.001
    assert losses[6] == pytest.approx(exact, rel=1e-6)


def test_the_refit_reaches_the_same_from_any_start() -> None:
    weight, gram = layer(12, 8, 24, 200)
    keep = keep_rows(np.abs(weight), 0.5)
    start = np.random.default_rng(0).standard_normal(weight.shape)
    from_start = refit(weight.astype(np.float64), gram, keep, start=start, iterations=200, tolerance=1e-12)
    np.testing.assert_allclose(from_start, least_squares(weight, damped(gram, 0.01), keep), atol=1e-8)


def test_the_refit_leaves_a_full_mask_alone() -> None:
    weight, gram = layer(13, 4, 8)
    np.testing.assert_allclose(refit(weight, gram, np.ones(weight.shape, bool)), weight, rtol=1e-6)
