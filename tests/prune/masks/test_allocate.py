"""Budgets over layers: global magnitude with a floor (docs/methods.md#pass-magnitude), OWL."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.prune.masks.allocate import keep_global, outlier_share, owl


def keep(layers: list[np.ndarray], removed: int, reserved: list[int]) -> list[list[bool]]:
    masks = keep_global([lambda a=a: a for a in layers], removed, reserved)
    return [mask.reshape(-1).tolist() for mask in masks]


def test_b3_without_a_floor_a_layer_collapses() -> None:
    first, second = np.array([[0.1, 0.5, 0.9]]), np.array([[0.2, 0.3]])
    assert keep([first, second], 3, [0, 0]) == [[False, True, True], [False, False]]
    assert keep([first, second], 3, [1, 1]) == [[False, False, True], [False, True]]


def oracle(layers: list[np.ndarray], removed: int, reserved: list[int]) -> list[list[bool]]:
    """Sort everything that is not reserved."""
    free = []
    for at, layer in enumerate(layers):
        flat = layer.reshape(-1)
        order = np.argsort(flat, kind="stable")
        best = set(order[len(order) - reserved[at] :].tolist()) if reserved[at] else set()
        free += [(flat[i], at, i) for i in range(flat.size) if i not in best]
    gone = {(at, i) for _, at, i in sorted(free)[:removed]}
    return [[(at, i) not in gone for i in range(layer.size)] for at, layer in enumerate(layers)]


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.floats(0, 1),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
@settings(deadline=None)
def test_exactly_the_lowest_go(seed: int, sizes: list[int], share: float, kind: type) -> None:
    rng = np.random.default_rng(seed)
    layers = [np.abs(np.round(rng.standard_normal((1, size)), 1)).astype(kind) for size in sizes]
    reserved = [int(rng.integers(0, size + 1)) for size in sizes]
    removed = int(share * (sum(sizes) - sum(reserved)))
    assert keep(layers, removed, reserved) == oracle(layers, removed, reserved)


def test_owl_removes_less_where_outliers_are() -> None:
    ratios = owl([1.0, 3.0, 2.0], [10, 10, 10], 0.5)
    np.testing.assert_allclose(ratios, [0.58, 0.42, 0.5])


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(1, 1000)), min_size=1, max_size=12),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_owl_keeps_the_total_and_stays_possible(
    blocks: list[tuple[float, int]], ratio: float, spread: float
) -> None:
    shares, sizes = zip(*blocks, strict=True)
    ratios = owl(shares, sizes, ratio, spread)
    assert ratios.min() >= 0 and ratios.max() <= 1
    assert np.average(ratios, weights=sizes) == pytest.approx(ratio, abs=1e-9)


def test_owl_clips_and_gives_back() -> None:
    ratios = owl([0.0, 10.0, 10.0], [10, 10, 10], 0.95, 0.2)
    assert ratios[0] == 1.0
    np.testing.assert_allclose(ratios[1:], (0.95 * 3 - 1) / 2)


def test_owl_on_equal_blocks_is_uniform() -> None:
    np.testing.assert_array_equal(owl([2.0, 2.0], [3, 5], 0.3), [0.3, 0.3])


def test_outlier_share_counts_what_exceeds_the_mean() -> None:
    scores = np.ones((10, 10), dtype=np.float32)
    scores[0, :3] = 100
    assert outlier_share([scores[:5], scores[5:]], times=5) == pytest.approx(3.0)
