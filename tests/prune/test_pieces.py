"""What is worked out in pieces, so that little memory is held, is the same however small these are."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.prune.criteria import _products
from graphprune.prune.divergence import _chunks
from graphprune.prune.dual import RowSheet, kernel
from graphprune.prune.masks.patterns import Pattern, keep_groups, keep_rows
from graphprune.prune.repair import Change, repair
from graphprune.prune.repair.observe import _Waiting
from graphprune.prune.repair.samples import Samples
from graphprune.prune.repair.sequential import FAINT, audible
from graphprune.prune.rewrite import _taken
from graphprune.prune.saliency import _both_sums
from graphprune.prune.shrink import inverted
from graphprune.prune.surgeon import ColumnSheet, eliminate
from tests.axes.claims import sketch

Array = np.ndarray
SIZES = pytest.mark.parametrize("size", [1, 7, 40, 1 << 22])


def pieces(monkeypatch: pytest.MonkeyPatch, size: int, *names: str) -> None:
    for name in names:
        monkeypatch.setattr(f"graphprune.prune.{name}", size)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@SIZES
@pytest.mark.parametrize("power", [1, 2])
def test_sums_of_rows_and_of_columns(monkeypatch: pytest.MonkeyPatch, size: int, power: int) -> None:
    pieces(monkeypatch, size, "saliency.CHUNK")
    array = drawn(9, 5, 2)
    rows, columns = _both_sums(array, power)
    whole = np.abs(array.astype(np.float64)) ** power
    np.testing.assert_allclose(rows, whole.sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(columns, whole.sum(axis=0).ravel(), rtol=1e-5)


def test_sums_of_rows_without_columns() -> None:
    rows, columns = _both_sums(np.zeros((3, 0), np.float32), 2)
    assert rows.tolist() == [0, 0, 0] and not len(columns)


@SIZES
def test_products_of_what_units_give(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Of every pair of Units the mean over samples of (W_u x_u)' (W_v x_v)."""
    pieces(monkeypatch, size, "criteria.CHUNK")
    matrix, rows = drawn(8, 7), drawn(5, 7, seed=1)
    units, columns = np.array([0, 2, 2, 1, 0]), np.array([1, 0, 4, 6, 3])
    given = np.zeros((4, 5, 8))
    for unit, column in zip(units, columns, strict=True):
        given[unit] += rows[:, column, None] * matrix[:, column]
    found = _products(matrix, rows, units, columns, 4)
    np.testing.assert_allclose(found, np.einsum("unr,vnr->uv", given, given) / 5, rtol=1e-4, atol=1e-5)


@SIZES
@pytest.mark.parametrize("rows", [4, 30])
def test_eliminations(monkeypatch: pytest.MonkeyPatch, size: int, rows: int) -> None:
    matrix, x = drawn(6, 24), drawn(rows, 24, seed=1)
    about = x - x.mean(axis=0)
    units, columns = np.arange(24) % 8, np.arange(24)

    def losses() -> tuple[Array, Array]:
        inverse = inverted(about.astype(float).T @ about / rows, 0.01)
        sides = ColumnSheet(matrix, inverse, units, columns), RowSheet(matrix, about, 0.01, units, columns)
        return eliminate([sides[0]], 8), eliminate([sides[1]], 8)

    whole = losses()
    pieces(monkeypatch, size, "surgeon.CHUNK", "dual.CHUNK", "dual.PIECE")
    for one, two in zip(losses(), whole, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_allclose(kernel(about), about.astype(float) @ about.T, rtol=1e-6, atol=1e-6)


@SIZES
@pytest.mark.parametrize("aligned", [True, False])
def test_cuts(monkeypatch: pytest.MonkeyPatch, size: int, aligned: bool) -> None:
    pieces(monkeypatch, size, "rewrite.CHUNK")
    array = drawn(6, 5, 4)
    if not aligned:
        held = np.zeros(array.nbytes + 1, np.uint8)
        held[1:] = np.frombuffer(array.tobytes(), np.uint8)
        array = held[1:].view(np.float32).reshape(array.shape)
    kept = [np.array([0, 2, 5]), np.array([4, 1]), np.array([3])]
    for which in np.ndindex(2, 2, 2):
        chosen = [slots if taken else None for slots, taken in zip(kept, which, strict=True)]
        every = [np.arange(n) if s is None else s for n, s in zip(array.shape, chosen, strict=True)]
        assert np.array_equal(_taken(array, chosen), np.array(array)[np.ix_(*every)])


@SIZES
def test_masks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pieces(monkeypatch, size, "masks.patterns._CHUNK")
    scores = np.random.default_rng(2).integers(0, 5, (7, 12)).astype(np.float32)  # with ties
    kept = keep_groups(scores, Pattern(1, 4)).reshape(7, 3, 4)
    assert (kept.sum(axis=2) == 1).all()
    assert (scores.reshape(kept.shape)[kept] == scores.reshape(kept.shape).max(axis=2).ravel()).all()
    rows = keep_rows(scores, 0.4)
    assert int((~rows).sum()) == int(0.4 * 84)
    assert set((~rows).sum(axis=1)) <= {4, 5}
    for score, keep in zip(scores, rows, strict=True):
        assert score[~keep].max() <= score[keep].min()


@SIZES
@pytest.mark.parametrize("biased", [True, False])
def test_refits_of_rows(monkeypatch: pytest.MonkeyPatch, size: int, biased: bool) -> None:
    x, y, weight = drawn(2, 5, 9), drawn(2, 5, 3, seed=1), drawn(2, 3, 9, seed=2)
    keep = np.random.default_rng(3).random((2, 9)) < 0.6

    def refit() -> list[Array]:
        return list(Samples(x, y).refits(weight, keep, (0.01, 0.3), biased))

    whole = refit()
    pieces(monkeypatch, size, "repair.samples.CHUNK_ELEMENTS")
    np.testing.assert_allclose(refit(), whole, rtol=1e-5, atol=1e-6)
    assert not any(found[np.broadcast_to(~keep[:, None], found.shape)].any() for found in whole)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("samples", [3, 40])
def test_repairs(monkeypatch: pytest.MonkeyPatch, size: int, samples: int) -> None:
    """Of layers whose rows are held, and of layers whose products are summed."""
    analysis = sketch(
        """(float[n,3,2,1] x) => (float[n,2,2,1] y) { a = Conv(x, w1)\n b = Relu(a)
        c = Conv <group = 2> (b, w2, b2)\n d = Relu(c)\n y = Conv(d, w3) }""",
        w1=(12, 3, 1, 1), w2=(16, 6, 1, 1), b2=(16,), w3=(2, 16, 1, 1),
    )  # fmt: skip
    cuts = {g.id: tuple(range(0, g.size, 2)) for g in analysis.prunable}
    data = [{"x": drawn(samples, 3, 2, 1)}]
    whole = repair(analysis, Change(cuts), batches=data)
    pieces(monkeypatch, size, "repair.observe.CHUNK", "repair.sequential.PIECE")
    parts = repair(analysis, Change(cuts), batches=data)
    assert parts.replaced.keys() == whole.replaced.keys() and parts.biases.keys() == whole.biases.keys()
    for name, array in whole.replaced.items():
        np.testing.assert_allclose(parts.replaced[name], array, atol=2e-4 * np.abs(array).max())


@SIZES
def test_faint_numbers(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pieces(monkeypatch, size, "repair.sequential.PIECE")
    array = np.where(np.random.default_rng(0).random((5, 9)) < 0.5, FAINT / 2, 1.0)
    assert np.array_equal(audible(array.copy()), np.where(array < FAINT, 0.0, array))


@SIZES
def test_comparisons(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pieces(monkeypatch, size, "divergence.CHUNK")
    one, two = drawn(11, 3), drawn(11, 3, seed=1)
    found = list(_chunks(one, two))
    assert all(len(part) == max(1, min(11, size // 3)) or part is found[-1][0] for part, _ in found)
    assert np.array_equal(np.concatenate([part for part, _ in found]), one)
    assert np.array_equal(np.concatenate([part for _, part in found]), two)


@pytest.mark.parametrize(
    ("counts", "given"),
    [
        ([3, 3, 3, 1], [10]),
        ([10], [10]),
        ([11, 2], [11, 2]),
        ([4, 6, 1], [10, 1]),
        ([4, 7, 1], [4, 8]),
        ([9, 1, 9], [10, 9]),
        ([0, 3, 0], [3]),
    ],
)
def test_rows_wait_until_they_are_ten(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], given: list[int]
) -> None:
    """More are not joined, fewer wait for the end, and every row comes once and in order."""
    pieces(monkeypatch, 10, "repair.observe.CHUNK")
    waiting, found = _Waiting(2), []
    starts = np.cumsum([0, *counts])
    rows = drawn(1, int(starts[-1]), 2), drawn(1, int(starts[-1]), 3, seed=1)
    for start, count in zip(starts, counts, strict=False):
        found += list(waiting.add(*(each[:, start : start + count] for each in rows)))
    found += list(waiting.rest())
    assert [one.shape[1] for one, _ in found] == given and not list(waiting.rest())
    for place, each in enumerate(rows):
        assert np.array_equal(np.concatenate([part[place] for part in found], axis=1), each)


@pytest.mark.parametrize(("width", "most"), [(1, 6), (2, 6), (3, 4), (4, 3), (12, 1), (50, 1)])
def test_wide_rows_wait_for_fewer(monkeypatch: pytest.MonkeyPatch, width: int, most: int) -> None:
    """At most 12 elements, or 6 rows."""
    pieces(monkeypatch, 6, "repair.observe.CHUNK")
    monkeypatch.setattr("graphprune.statistics.rows.CHUNK_ELEMENTS", 12)
    waiting = _Waiting(width)
    found = [count for count in range(1, 13) if list(waiting.add(drawn(1, 1, width)))]
    assert found == list(range(most, 13, most))
