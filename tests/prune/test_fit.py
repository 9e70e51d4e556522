"""How a Site is refitted: the ridge that helps samples it has not seen, and never a weight that is worse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from graphprune.prune.repair import Change, repair, sequential
from graphprune.prune.repair.fit import DAMPINGS, ROWS, WIDE, Fit, choose_damping, fit
from graphprune.prune.repair.solve import Moments, observed
from tests.axes.claims import sketch

from .test_solve import layer, samples

Doubles = np.ndarray
LIVE = np.ones((1, 8), bool)


def noisy(seed: int, noise: float, count: int = 96) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """A weight, its kept columns, and inputs and results of a cut prefix that is off by some noise."""
    weight, keep = layer(seed)
    x = samples(seed, count=count)
    y = x @ weight.transpose(0, 2, 1)
    draw = np.random.default_rng(seed)
    return weight, keep, x + noise * draw.standard_normal(x.shape), y + noise * draw.standard_normal(y.shape)


def held_out(weight: Doubles, keep: Doubles, x: Doubles, y: Doubles, damping: float) -> float:
    """Squared error of four fits, each on the three quarters of the rows that it is not judged on."""
    total, quarter = 0.0, x.shape[1] // 4
    kept = np.flatnonzero(keep[0])
    old = weight[0][:, kept]
    for fold in range(4):
        out = np.zeros(x.shape[1], bool)
        out[fold * quarter : (fold + 1) * quarter] = True
        a, b = x[0][~out][:, kept], y[0][~out]
        mean_a, mean_b = a.mean(0), b.mean(0)
        gram = (a - mean_a).T @ (a - mean_a)
        ridge = damping * np.diagonal(gram).mean() * np.eye(len(kept))
        new = ((b - mean_b).T @ (a - mean_a) + old @ ridge) @ np.linalg.inv(gram + ridge)
        error = y[0][out] - mean_b - (x[0][out][:, kept] - mean_a) @ new.T
        total += float((error**2).mean(axis=0).sum())
    return total


def test_the_ridge_is_the_one_that_errs_least_on_what_it_has_not_seen() -> None:
    chosen = set()
    for seed, noise in product(range(6), (0.0, 1.0, 2.0, 5.0)):
        weight, keep, x, y = noisy(seed, noise, 32)
        folds = [observed(x[:, at : at + 8], y[:, at : at + 8]) for at in range(0, 32, 8)]
        found = choose_damping(weight, folds, keep, LIVE, True)
        errors = {damping: held_out(weight, keep, x, y, damping) for damping in DAMPINGS}
        assert found == min(errors, key=errors.__getitem__)
        chosen.add(found)
    assert len(chosen) > 2, "noise calls for different ridges"


@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("how", [{"refit"}, {"bias"}, {"refit", "bias"}])
@pytest.mark.parametrize("biased", [True, False])
def test_no_repair_is_worse_than_none_on_its_own_data(noise: float, how: set[str], biased: bool) -> None:
    weight, keep, x, y = noisy(1, noise)
    folds = [observed(x[:, at : at + 24], y[:, at : at + 24]) for at in range(0, 96, 24)]
    made = fit(weight, folds, keep, LIVE, frozenset(how), biased)
    cut = np.where(keep[:, None], weight, 0)
    whole = observed(x, y)
    errors = [float(whole.loss(w, b).sum()) for w, b in ((cut, np.zeros((1, 8))), (made.weight, made.bias))]
    assert errors[1] <= errors[0] and made.after <= made.before
    assert made.after / made.before == pytest.approx(errors[1] / errors[0])
    assert biased or not made.bias.any()


def test_a_refit_that_is_worse_is_not_kept() -> None:
    """Moments that rounding left without a positive matrix have a stationary point that is no minimum."""
    weight, keep = np.array([[[1.0, 1.0, 1.0]]]), np.array([[True, True, False]])
    xx = np.array([[[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    none, yx = np.zeros((1, 3)), np.array([[[2.0, 4.0, 0.0]]])
    moments = Moments(1.0, none, np.zeros((1, 1)), xx, yx, np.array([[30.0]]))
    made = fit(weight, [moments], keep, LIVE[:, :1], frozenset({"refit"}), False)
    np.testing.assert_array_equal(made.weight, [[[1.0, 1.0, 0.0]]])
    assert made.after == made.before and not made.bias.any()


@pytest.mark.parametrize(("count", "chosen"), [(16, False), (31, False), (32, True)])
def test_few_samples_choose_no_ridge(monkeypatch: pytest.MonkeyPatch, count: int, chosen: bool) -> None:
    """A quarter of 31 says too little about the rest of them."""
    asked: list[int] = []

    def note(weight: Doubles, folds: Sequence[Moments], *rest: object) -> float:
        asked.append(len(folds))
        return 0.01

    monkeypatch.setattr("graphprune.prune.repair.fit.choose_damping", note)
    analysis = sketch(MLP, w1=(6, 12), w2=(12, 5))
    data = np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)
    repair(analysis, Change({"w1:1": tuple(range(6))}), batches=[{"x": data[:9]}, {"x": data[9:]}])
    assert asked == ([4] if chosen else [])


MLP = "(float[n,6] x) => (float[n,5] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }"
MATMUL = "(float[n,7,6] x) => (float[n,7,5] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }"
CONV = "(float[n,3,4,4] x) => (float[n,5,4,4] y) { a = Conv(x, w1)\n b = Relu(a)\n y = Conv(b, w2) }"


@pytest.mark.parametrize(
    ("body", "weights", "shape", "rows"),
    [
        (MATMUL, {"w1": (6, 12), "w2": (12, 5)}, (7, 6), 7),
        (CONV, {"w1": (12, 3, 1, 1), "w2": (5, 12, 1, 1)}, (3, 4, 4), 16),
    ],
    ids=["positions", "pixels"],
)
def test_all_rows_of_a_sample_stand_in_one_fold(
    body: str,
    weights: dict[str, tuple[int, ...]],
    shape: tuple[int, ...],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of one sample are much alike: split, the ridge would be judged on what it was made from."""
    seen: list[Sequence[Moments]] = []

    def spy(weight: Doubles, folds: Sequence[Moments], *rest: object) -> Fit:
        seen.append(folds)
        return fit(weight, folds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sequential, "fit", spy)
    draw = np.random.default_rng(0)
    first = np.swapaxes(draw.standard_normal(weights["w1"]), 0, 1 if body is MATMUL else 0)
    first[0] = np.eye(1, first[0].size).reshape(first[0].shape)  # the first Unit is the first feature
    w1 = np.swapaxes(first, 0, 1 if body is MATMUL else 0).astype(np.float32)
    analysis = sketch(body, **{**weights, "w1": np.ascontiguousarray(w1)})
    data = [{"x": draw.standard_normal((16, *shape)).astype(np.float32)} for _ in range(3)]
    for feed in data:
        np.moveaxis(feed["x"], 2 if body is MATMUL else 1, -1)[..., 0] = 0
    np.moveaxis(data[1]["x"], 2 if body is MATMUL else 1, -1)[5, ..., 0] = 1  # and says: this sample
    repair(analysis, Change({analysis.prunable[0].id: (0, 2, 3, 5, 8)}), batches=data)
    (folds,) = seen
    assert len(folds) == 4 and sum(fold.count for fold in folds) == 48 * rows
    assert all(fold.count for fold in folds), "every fold has samples"
    assert sorted(round(float(fold.x[0, 0])) for fold in folds) == [0, 0, 0, rows]


@pytest.mark.parametrize(("less", "held"), [(0, 4), (1, 1)])
def test_wide_layers_hold_their_sums_once_and_not_per_fold(
    monkeypatch: pytest.MonkeyPatch, less: int, held: int
) -> None:
    """The 5 columns that are left of 12 have sums of 8 x 5 x 5 bytes; nothing is lost of them."""
    seen: list[Sequence[Moments]] = []

    def spy(weight: Doubles, folds: Sequence[Moments], *rest: object) -> Fit:
        seen.append(folds)
        return fit(weight, folds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sequential, "fit", spy)
    monkeypatch.setattr("graphprune.prune.repair.observe.FOLDED_BYTES", 8 * 5 * 5 - less)
    analysis = sketch(MATMUL, w1=(6, 12), w2=(12, 5))
    data = np.random.default_rng(0).standard_normal((48, 7, 6)).astype(np.float32)
    repair(analysis, Change({"w1:1": (0, 2, 3, 5, 8)}), batches=[{"x": data[:20]}, {"x": data[20:]}])
    (folds,) = seen
    assert len(folds) == held and sum(fold.count for fold in folds) == 48 * 7


def test_matching_scales_rows_to_the_spread_they_had_within_bounds() -> None:
    weight, keep = layer(0)
    x = samples(0)
    y = x @ weight.transpose(0, 2, 1)
    found = fit(weight, [observed(x, y)], keep, LIVE, frozenset({"match"}), True)
    cut = (x @ (weight * keep[:, None]).transpose(0, 2, 1))[0]
    wanted = cut.std(axis=0) * np.clip(y[0].std(axis=0) / cut.std(axis=0), 0.5, 2.0)
    got = x[0] @ found.weight[0].T + found.bias[0]
    np.testing.assert_allclose(got.std(axis=0), wanted, rtol=1e-5)
    np.testing.assert_allclose(got.mean(axis=0), y[0].mean(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("columns", "held"), [(WIDE, 4), (WIDE + 1, 1)])
@pytest.mark.parametrize(
    ("outputs", "blocks", "used"), [(ROWS, 1, ROWS), (ROWS + 1, 1, ROWS), (ROWS + 1, 2, ROWS + 1)]
)
def test_where_solutions_are_dear_fewer_folds_and_rows_choose_the_ridge(
    columns: int, held: int, outputs: int, blocks: int, used: int
) -> None:
    """Up to the limits all of them do; rows are left out of a single block only, and never the last one."""
    asked: list[tuple[int, ...]] = []

    class Fold:
        def __add__(self, other: Fold) -> Fold:
            return self

        def some(self, rows: np.ndarray) -> Fold:
            assert used < outputs and rows[0] == 0 and rows[-1] == outputs - 1
            return self

        def refits(self, weight: Doubles, keep: Doubles, dampings: Sequence[float], biased: bool) -> object:
            return (weight for _ in dampings)

        def loss(self, weight: Doubles, bias: Doubles) -> Doubles:
            asked.append(weight.shape)
            return np.zeros(weight.shape[:2])

    weight = np.zeros((blocks, outputs, columns), np.float32)
    live, keep = np.ones((blocks, outputs), bool), np.ones((blocks, columns), bool)
    assert choose_damping(weight, [Fold() for _ in range(4)], keep, live, False) == DAMPINGS[0]  # type: ignore[type-var]
    assert asked == [(blocks, used, columns)] * (held * len(DAMPINGS))
