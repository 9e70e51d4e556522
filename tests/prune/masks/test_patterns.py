"""Exact counts, stable ties, and the patterns themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprune.errors import ArgumentError
from graphprune.prune.masks.patterns import (
    Pattern,
    keep_groups,
    keep_matrix,
    keep_rows,
    read_pattern,
    removed_count,
)

# Few distinct values, so that ties are the rule.
MATRICES = st.builds(
    lambda seed, rows, columns, levels: np.random.default_rng(seed).integers(0, levels, (rows, columns)),
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(1, 24),
    st.integers(1, 9),
)


def stable(row: np.ndarray, count: int) -> np.ndarray:
    keep = np.ones(row.size, dtype=bool)
    keep[np.argsort(row, kind="stable")[:count]] = False
    return keep


@given(MATRICES, st.floats(0, 1))
def test_a_row_loses_what_a_stable_sort_takes(matrix: np.ndarray, ratio: float) -> None:
    keep = keep_rows(matrix.astype(np.float32), ratio)
    counts = (~keep).sum(axis=1)
    assert counts.sum() == removed_count(matrix.size, ratio)
    assert counts.max() - counts.min() <= 1
    for row, kept, count in zip(matrix, keep, counts, strict=True):
        np.testing.assert_array_equal(kept, stable(row, count))


def test_the_one_more_goes_where_it_is_worth_least() -> None:
    scores = np.array([[1, 5, 9], [1, 3, 9], [1, 4, 9]], dtype=np.float32)
    assert (~keep_rows(scores, 0.5)).sum(axis=1).tolist() == [1, 2, 1]


@given(MATRICES, st.floats(0, 1))
def test_a_matrix_loses_what_a_stable_sort_takes(matrix: np.ndarray, ratio: float) -> None:
    keep = keep_matrix(matrix.astype(np.float32), ratio)
    expected = stable(matrix.reshape(-1), removed_count(matrix.size, ratio))
    np.testing.assert_array_equal(keep.reshape(-1), expected)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.sampled_from([(2, 4), (1, 4), (3, 8)]))
def test_every_group_keeps_n(seed: int, rows: int, groups: int, shape: tuple[int, int]) -> None:
    pattern = Pattern(*shape)
    scores = np.random.default_rng(seed).integers(0, 4, (rows, groups * pattern.m)).astype(np.float32)
    keep = keep_groups(scores, pattern).reshape(-1, pattern.m)
    for row, kept in zip(scores.reshape(-1, pattern.m), keep, strict=True):
        np.testing.assert_array_equal(kept, stable(row, pattern.m - pattern.n))


def test_many_rows_are_ranked_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (13, 16)).astype(np.float32)
    whole = keep_rows(scores, 0.5), keep_groups(scores, Pattern(2, 4))
    monkeypatch.setattr("graphprune.prune.masks.patterns._CHUNK", 32)
    np.testing.assert_array_equal(keep_rows(scores, 0.5), whole[0])
    np.testing.assert_array_equal(keep_groups(scores, Pattern(2, 4)), whole[1])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_of_nothing_nothing_goes(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, np.float32)
    for keep in (keep_groups(nothing, Pattern(2, 4)), keep_rows(nothing, 0.5), keep_matrix(nothing, 0.5)):
        assert keep.shape == shape


@pytest.mark.parametrize(
    ("total", "ratio", "count"), [(100, 0.29, 29), (10, 0.3, 3), (7, 0.5, 3), (4, 1.0, 4)]
)
def test_a_ratio_counts_as_people_do(total: int, ratio: float, count: int) -> None:
    assert removed_count(total, ratio) == count


def test_pattern_text() -> None:
    assert read_pattern("2:4") == Pattern(2, 4)
    assert str(read_pattern("unstructured")) == "unstructured"
    assert read_pattern("1:4").ratio == 0.75


@pytest.mark.parametrize("text", ["4:4", "0:4", "5:4", "2/4", "2:", ":4", "-1:4", "two:four", "", "1:1000"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="pattern must be"):
        read_pattern(text)
