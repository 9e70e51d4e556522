"""New numbers on an old grid: the best codes, or nearly; never worse than rounding."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest

from graphprune.prune.repair.codes import on_grid
from graphprune.prune.repair.fit import fit
from graphprune.prune.repair.grid import LEAST, Lattice, _damped, _Descent, settle
from graphprune.prune.repair.grid_rows import settle_rows
from graphprune.prune.repair.samples import Samples
from graphprune.prune.repair.solve import Moments, observed

Array = np.ndarray


def toy(
    seed: int, columns: int, rows: int, scale: float, low: int, high: int
) -> tuple[Moments, Array, Lattice]:
    """Correlated inputs, results that no code gives, and the least-squares solution."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((200, columns)) @ draw.standard_normal((columns, columns))
    y = x @ draw.standard_normal((columns, rows)) + 0.1 * draw.standard_normal((200, rows))
    wanted = np.linalg.lstsq(x, y, rcond=None)[0].T[None]
    lattice = Lattice(np.full(wanted.shape, scale), np.zeros(wanted.shape), low, high)
    return observed(x[None], y[None]), wanted, lattice


def best(moments: Moments, wanted: Array, lattice: Lattice, reach: int | None) -> Array:
    """The least loss over all codes, or over those within reach of the real solution, row by row."""
    columns = wanted.shape[2]
    found = []
    for row in range(wanted.shape[1]):
        centre = np.rint(wanted[0, row] / lattice.scale[0, row])
        spans = [
            np.arange(lattice.low, lattice.high + 1) if reach is None else c + np.arange(-reach, reach + 1)
            for c in centre
        ]
        codes = np.clip(np.array(list(product(*spans))), lattice.low, lattice.high)
        error = codes * lattice.scale[0, row] - wanted[0, row]
        metric = moments.metric(0, slice(0, columns), False)
        found.append(np.einsum("ni,ij,nj->n", error, metric, error).min())
    return np.array(found)


def excess(moments: Moments, wanted: Array, weight: Array) -> Array:
    error = weight - wanted
    return np.einsum("ri,ij,rj->r", error[0], moments.metric(0, slice(0, wanted.shape[2]), False), error[0])


@pytest.mark.parametrize(
    ("low", "high", "scale", "reach"), [(-8, 7, 0.4, None), (-127, 127, 0.03, 3)], ids=["int4", "int8"]
)
@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_nine_of_ten_toys_get_the_best_codes_there_are(
    low: int, high: int, scale: float, reach: int | None, columns: int
) -> None:
    hits = []
    for seed in range(6 if reach is None and columns == 4 else 12):
        moments, wanted, lattice = toy(seed, columns, 4, scale, low, high)
        if reach is None:  # a bounded grid: the wanted numbers lie within
            wanted = np.clip(wanted, low * scale, high * scale)
        codes = settle(wanted, lattice, moments, False, 0.0)
        assert codes.min() >= low and codes.max() <= high and (codes == np.rint(codes)).all()
        least = best(moments, wanted, lattice, reach)
        hits.extend(excess(moments, wanted, lattice.values(codes)) <= least * (1 + 1e-9) + 1e-12)
    assert np.mean(hits) >= 0.9


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("columns", [6, 40])
def test_no_row_is_worse_than_rounded_and_most_are_better(columns: int, biased: bool) -> None:
    moments, wanted, lattice = toy(3, columns, 30, 0.3, -8, 7)
    codes, near = settle(wanted, lattice, moments, biased, 1e-3), lattice.nearest(wanted)
    losses = []
    for each in (codes, near):
        weight = lattice.values(each)
        losses.append(moments.loss(weight, moments.offset(weight) if biased else np.zeros(weight.shape[:2])))
    assert (losses[0] <= losses[1]).all()
    assert losses[0].mean() < 0.7 * losses[1].mean()


def test_on_rows_that_neither_saw_the_codes_are_better_too() -> None:
    gains = []
    for seed in range(8):
        draw = np.random.default_rng(seed)
        mix, true = draw.standard_normal((24, 24)), draw.standard_normal((24, 10))
        x, other = (draw.standard_normal((n, 24)) @ mix for n in (300, 300))
        wanted = np.linalg.lstsq(x, x @ true, rcond=None)[0].T[None]
        lattice = Lattice(np.full(wanted.shape, 0.3), np.zeros(wanted.shape), -8, 7)
        moments = observed(x[None], (x @ true)[None])
        codes = settle(wanted, lattice, moments, False, 1e-2)
        losses = [
            ((other @ (lattice.values(each)[0].T) - other @ true) ** 2).mean()
            for each in (lattice.nearest(wanted), codes)
        ]
        gains.append(losses[0] - losses[1])
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))


def test_zero_points_scales_of_rows_and_dead_rows_are_kept_to() -> None:
    moments, wanted, _ = toy(5, 5, 3, 1.0, 0, 15)
    scale = np.broadcast_to(np.array([0.2, 0.5, 0.0])[None, :, None], wanted.shape)
    lattice = Lattice(scale, np.full(wanted.shape, 8.0), 0, 15)
    codes = settle(wanted, lattice, moments, False, 1e-2)
    assert codes.min() >= 0 and codes.max() <= 15
    assert (lattice.values(codes)[0, 2] == 0).all()
    assert np.abs(lattice.values(codes)[0, 1] - wanted[0, 1]).max() < 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.07, 1.9])
def test_a_move_takes_every_code_of_a_column_to_the_best_of_all_codes(seed: int, scale: float) -> None:
    """Whatever the others are, and however far it is."""
    moments, wanted, lattice = toy(seed, 3, 4, scale, -8, 7)
    metric = np.stack([moments.metric(0, slice(0, 3), False)])
    codes = np.random.default_rng(seed).integers(-8, 8, wanted.shape).astype(float)
    pull = (lattice.values(codes) - wanted) @ metric
    descent = _Descent(wanted, lattice, metric)
    for column in range(3):
        every = []
        for code in range(-8, 8):
            other = codes.copy()
            other[:, :, column] = code
            every.append(descent._losses(other)[0])
        descent._move(codes, pull, column)
        np.testing.assert_allclose(descent._losses(codes)[0], np.min(every, axis=0), rtol=1e-9)
        np.testing.assert_allclose(pull, (lattice.values(codes) - wanted) @ metric, atol=1e-6)


def wide(seed: int, columns: int, rows: int = 6, samples: int = 20) -> tuple[Samples, Array, Lattice]:
    """Fewer samples than columns, and a weight that is not on the grid."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((samples, columns)) * draw.uniform(0.2, 2, columns) + 1
    wanted = draw.standard_normal((rows, columns))
    seen = Samples(x[None].astype(np.float32), (x @ wanted.T)[None].astype(np.float32))
    return seen, wanted[None], Lattice(np.full((1, rows, columns), 0.3), np.zeros((1, rows, columns)), -8, 7)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("damping", [1e-2, 0.3])
def test_on_the_side_of_the_rows_the_codes_are_as_good(biased: bool, damping: float) -> None:
    """The same plane by another way, then another order of moves."""
    ratios = []
    for seed in range(4):
        seen, wanted, lattice = wide(seed, 300)
        losses = []
        for search in (settle, settle_rows):
            codes = search(wanted, lattice, seen, biased, damping)
            assert codes.min() >= -8 and codes.max() <= 7 and (codes == np.rint(codes)).all()
            error = lattice.values(codes)[0] - wanted[0]
            metric = seen.metric(0, slice(None), biased)
            level = damping * np.diagonal(metric).mean()
            losses.append(np.einsum("ri,ij,rj->r", error, metric, error) + level * (error**2).sum(axis=1))
        ratios.append(losses[1].sum() / losses[0].sum())
    assert max(ratios) < 1.02


def test_a_wide_weight_is_settled_without_a_matrix_over_its_columns() -> None:
    columns, samples = 4000, 20
    seen, wanted, lattice = wide(0, columns, 4, samples)
    keep, live = np.ones((1, columns), bool), np.ones((1, 4), bool)
    found = fit(wanted, [seen], keep, live, frozenset({"refit"}), True)
    tracemalloc.start()
    settled = on_grid(found, lattice, [seen], True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 8 * columns * samples < 8 * columns**2 / 8
    near = lattice.values(lattice.nearest(np.asarray(found.weight, float)))
    lost = [seen.loss(w, seen.offset(w)).sum() for w in (settled.weight, near)]
    assert lost[0] < 0.1 * lost[1]


def test_a_ridge_is_a_share_of_the_mean_diagonal_of_its_block() -> None:
    """Where nothing varies, columns count alike; a block without columns has none."""
    metric = np.array([[[2.0, 1.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert _damped(metric, 0.5).tolist() == [[[3.5, 1.0], [1.0, 5.5]], [[1.0, 0.0], [0.0, 1.0]]]
    assert _damped(np.array([[[3.0]]]), 0.0)[0, 0, 0] == pytest.approx(3 * (1 + LEAST))
    assert _damped(np.zeros((2, 0, 0)), 0.5).shape == (2, 0, 0)


@pytest.mark.parametrize("biased", [True, False])
def test_blocks_get_the_codes_of_single_weights(biased: bool) -> None:
    """Two blocks of three rows."""
    toys = [toy(seed, 4, 3, 0.4, -8, 7) for seed in (0, 1)]
    seen = Moments(200.0, *(np.concatenate(e) for e in zip(*(_sums(t[0]) for t in toys), strict=True)))
    wanted = np.concatenate([each[1] for each in toys])
    lattice = Lattice(np.full(wanted.shape, 0.4), np.zeros(wanted.shape), -8, 7)
    codes = settle(wanted, lattice, seen, biased, 0.01)
    for block, (moments, one, own) in enumerate(toys):
        np.testing.assert_array_equal(codes[[block]], settle(one, own, moments, biased, 0.01))


def _sums(moments: Moments) -> tuple[Array, ...]:
    return moments.x, moments.y, moments.xx, moments.yx, moments.yy


@pytest.mark.parametrize("seed", range(3))
def test_a_descent_ends_where_no_single_step_pays(seed: int) -> None:
    """Which takes several rounds through strongly coupled columns."""
    moments, wanted, lattice = toy(seed, 24, 4, 0.1, -127, 127)
    metric = moments.metric(0, slice(0, 24), False)
    codes = _Descent(wanted, lattice, metric[None])._descended(lattice.nearest(wanted))
    least = excess(moments, wanted, lattice.values(codes))
    for column, step in product(range(24), (-1, 1)):
        other = codes.copy()
        other[:, :, column] += step
        assert (excess(moments, wanted, lattice.values(other)) >= least * (1 - 1e-9)).all()
