"""Data-driven criteria on statistics where the answer is known (docs/methods.md#criteria-from-data)."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import Analysis
from graphprune.errors import ModelError
from graphprune.prune import criteria
from graphprune.prune.criteria import CRITERIA, greedy
from graphprune.prune.dual import RowSheet
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.normalise import normalised
from graphprune.prune.shrink import inverted
from graphprune.prune.surgeon import ColumnSheet, eliminate
from graphprune.statistics.measures import Rows
from tests.axes.claims import sketch

from .evidence import gram, moments, ranks, score, vector

MLP = "(float[n,3] x) => (float[n,{rows}] y) {{ a = MatMul(x, u)\n b = Relu(a)\n y = MatMul(b, w) }}"
CONV = """(float[n,2,6,6] x) => (float[n,{rows},5,5] y) {{ a = Conv(x, u)\n b = Relu(a)\n y = Conv(b, w) }}"""
HEADS = """(float[2,5,6] x) => (float[2,5,6] y) { q = MatMul(x, wq)\n k = MatMul(x, wk)\n v = MatMul(x, wv)
    a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)\n y = MatMul(a, wo) }"""


def mlp(w: object) -> Analysis:
    """A hidden layer b that W (rows are outputs) reads."""
    w = np.array(w, np.float32)
    return sketch(MLP.format(rows=len(w)), u=(3, w.shape[1]), w=np.ascontiguousarray(w.T))


def heads() -> Analysis:
    return sketch(HEADS, opset=23, wq=(6, 8), wk=(6, 8), wv=(6, 8), wo=(8, 6))


def sample(columns: int, rows: int = 64, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, columns)) @ draw.standard_normal((columns, columns))


def loss(w: np.ndarray, second: np.ndarray, gone: list[int]) -> float:
    """Least squared error of W x once columns are gone and the rest is refitted."""
    keep = np.setdiff1d(np.arange(w.shape[1]), gone)
    refit = (w @ second)[:, keep] @ np.linalg.inv(second[np.ix_(keep, keep)])
    full = np.zeros_like(w)
    full[:, keep] = refit
    return 0.5 * float(np.trace((w - full) @ second @ (w - full).T))


Site = tuple[np.ndarray, np.ndarray, dict[int, list[int]]]
"""W, second moments of its columns, and the columns of each Unit."""


def eliminated(sites: list[Site], units: int) -> list[float]:
    """What each Unit adds to the loss of those that go before it, by trying all that are left."""
    gone: list[int] = []
    scores, reached = np.zeros(units), 0.0

    def lost(names: list[int]) -> float:
        return sum(loss(w, second, [c for n in names for c in own.get(n, [])]) for w, second, own in sites)

    while len(gone) < units:
        left = [unit for unit in range(units) if unit not in gone]
        added = {unit: lost([*gone, unit]) - lost(gone) for unit in left}
        unit = min(left, key=added.__getitem__)
        reached = max(reached, added[unit])
        scores[unit] = reached
        gone.append(unit)
    return scores.tolist()


def spans(units: int, width: int) -> dict[int, list[int]]:
    return {unit: list(range(width * unit, width * (unit + 1))) for unit in range(units)}


def test_wanda_is_weight_times_activation_norm() -> None:
    x = np.array([[8, 1, 1, 4]])
    np.testing.assert_allclose(score(mlp([[1, -3, 2, 0.5]]), "wanda", {"b": vector(x)}), [8, 3, 2, 2])


def test_wanda_of_a_scaled_input_with_its_column_scaled_back_is_the_same() -> None:
    w, x = np.array([[1, -3.0, 2, 0.5], [2, 1, 1, 1]]), sample(4)
    scaled, factor = x.copy(), 8.0
    scaled[:, 2] *= factor
    back = w.copy()
    back[:, 2] /= factor
    one, two = (score(mlp(m), "wanda", {"b": vector(v)}) for m, v in ((w, x), (back, scaled)))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_fluctuation_is_variance_times_squared_column() -> None:
    x = np.array([[1, 5, 0.0], [3, 5, 4]])
    found = score(mlp([[1, 2, 0.5], [2, 0, 0]]), "fluctuation", {"b": vector(x)})
    np.testing.assert_allclose(found, [1 * 5, 0, 4 * 0.25])


def test_a_constant_channel_scores_least_in_fluctuation() -> None:
    x = sample(5)
    x[:, 3] = 7
    assert np.argmin(score(mlp(np.ones((2, 5))), "fluctuation", {"b": vector(x)})) == 3


def test_fluctuation_of_heads_is_squared_per_column_and_averaged_after_standardising() -> None:
    analysis, x = heads(), sample(8)
    group = next(g.id for g in analysis.prunable if g.size == 4)
    columns = score(analysis, "fluctuation", {"a": vector(x)}, group=group)
    weight = np.asarray(analysis.model.graph.initializers["wo"].const_value.numpy(), np.float64)
    flat = (x.var(0) * (weight**2).sum(1)) ** 2
    np.testing.assert_allclose(columns, flat.reshape(4, 2), rtol=1e-6)
    standard = (flat - flat.mean()) / flat.std()
    np.testing.assert_allclose(normalised(columns, "z"), standard.reshape(4, 2).mean(1), rtol=1e-6)


def test_an_outlier_does_not_lift_the_scores_of_the_others() -> None:
    calm = np.random.default_rng(0).exponential(size=200)
    stormy = calm.copy()
    stormy[np.argmax(calm)] = 1e4
    few = np.argsort(calm)[:100]
    np.testing.assert_allclose(normalised(stormy, "robust")[few], normalised(calm, "robust")[few], atol=0.05)
    assert normalised(stormy, "z").min() > -0.1 > -0.8 > normalised(calm, "z").min()
    assert np.argsort(normalised(stormy, "robust")).tolist() == np.argsort(stormy).tolist()
    assert np.argmax(normalised(np.eye(300)[7], "robust")) == 7  # all others are the same


def test_obs_oracle() -> None:
    grams = {"w": moments([[2, 1], [1, 2]])}
    # Alone they cost 7.5 and 15. Without both, 1/2 tr(W H W') = 44 is lost.
    np.testing.assert_allclose(score(mlp([[1, 2], [3, 4]]), "obs", grams=grams), [7.5, 36.5])


def test_obs_of_convolutions_is_the_loss_of_removing_all_columns_of_a_channel() -> None:
    x = sample(20)
    w = np.random.default_rng(1).standard_normal((2, 5, 2, 2)).astype(np.float32)
    analysis = sketch(CONV.format(rows=2), u=(5, 2, 1, 1), w=w)
    site = (w.reshape(2, 20).astype(np.float64), gram(x).covariance[0], spans(5, 4))
    found = score(analysis, "obs", grams={"w": gram(x)})
    np.testing.assert_allclose(found, eliminated([site], 5), rtol=1e-5)


def test_obs_of_heads_removes_whole_heads() -> None:
    analysis, x = heads(), sample(8)
    group = next(g.id for g in analysis.prunable if g.size == 4)
    w = np.asarray(analysis.model.graph.initializers["wo"].const_value.numpy(), np.float64).T
    found = score(analysis, "obs", grams={"wo": gram(x)}, group=group)
    np.testing.assert_allclose(found, eliminated([(w, gram(x).covariance[0], spans(4, 2))], 4), rtol=1e-5)


def test_obs_of_a_grouped_convolution_reads_the_block_of_each_unit() -> None:
    body = """(float[n,2,6,6] x) => (float[n,4,6,6] y) { a = Conv(x, u)\n b = Relu(a)
        c = Conv <group = 2> (b, w)
        y = Conv(c, v) }"""
    draw, x = np.random.default_rng(2), sample(6)
    w = draw.standard_normal((4, 3, 1, 1)).astype(np.float32)
    analysis = sketch(body, u=(6, 2, 1, 1), w=w, v=(4, 4, 1, 1))
    covariance = gram(x, blocks=2).covariance
    rows = w.reshape(2, 2, 3).astype(np.float64)
    sites = [(rows[b], covariance[b], {3 * b + c: [c] for c in range(3)}) for b in range(2)]
    found = score(analysis, "obs", grams={"w": gram(x, 2)}, group="u:0")
    np.testing.assert_allclose(found, eliminated(sites, 6), rtol=1e-5)


@pytest.mark.parametrize("group, start", [("u:1", 0), ("t:1", 2)])
def test_obs_of_a_group_that_reaches_some_columns_only(group: str, start: int) -> None:
    """The others stay, and make up for what goes."""
    body = """(float[n,3] x) => (float[n,4] y) { a = MatMul(x, t)\n b = MatMul(x, u)
        r = Relu(a)\n s = Relu(b)\n c = Concat <axis = 1> (s, r)
        y = MatMul(c, w) }"""
    draw, x = np.random.default_rng(7), sample(6, 8)
    w = draw.standard_normal((6, 4)).astype(np.float32)
    analysis = sketch(body, u=(3, 2), t=(3, 4), w=w)
    size = next(each.size for each in analysis.prunable if each.id == group)
    second, damping = gram(x), 0.05
    covariance = second.covariance[0] + damping * np.diagonal(second.covariance[0]).mean() * np.eye(6)
    owned = {unit: [start + unit] for unit in range(size)}
    found = score(analysis, "obs", grams={"w": second}, group=group, damping=damping)
    np.testing.assert_allclose(found, eliminated([(w.T.astype(float), covariance, owned)], size), rtol=1e-5)


def test_obs_of_two_readers_is_what_both_lose() -> None:
    body = """(float[n,3] x) => (float[n,4] y, float[n,2] z) { a = MatMul(x, u)\n b = Relu(a)
        y = MatMul(b, v)\n z = MatMul(b, w) }"""
    draw, x = np.random.default_rng(7), sample(6)
    v, w = (draw.standard_normal((6, n)).astype(np.float32) for n in (4, 2))
    analysis = sketch(body, u=(3, 6), v=v, w=w)
    sites = [(m.T.astype(np.float64), gram(x).covariance[0], spans(6, 1)) for m in (v, w)]
    found = score(analysis, "obs", grams={"v": gram(x), "w": gram(x)})
    np.testing.assert_allclose(found, eliminated(sites, 6), rtol=1e-5)


def test_obs_of_recurrent_cells_sees_all_gates_and_directions() -> None:
    body = """(float[4,n,3] x) => (float[4,2,n,5] y) { f = MatMul(x, u)\n h = Relu(f)
        y = GRU <hidden_size = 5, direction = "bidirectional"> (h, w, r) }"""
    w = np.random.default_rng(9).standard_normal((2, 15, 6)).astype(np.float32)
    analysis, x = sketch(body, u=(3, 6), w=w, r=(2, 15, 5)), sample(6)
    covariance, rows = gram(x).covariance[0], w.reshape(30, 6).astype(np.float64)
    rows /= np.sqrt(np.trace(rows @ covariance @ rows.T))  # in units of what the gates get
    found = score(analysis, "obs", grams={"w": gram(x)})
    np.testing.assert_allclose(found, eliminated([(rows, covariance, spans(6, 1))], 6), rtol=1e-5)


def test_obs_of_readers_whose_results_differ_in_scale_counts_shares_of_their_variance() -> None:
    """A loss of a tenth of a large result and of a tenth of a small one are the same loss."""
    body = """(float[n,3] x) => (float[n,4] y, float[n,2] z) { a = MatMul(x, u)\n b = Relu(a)
        y = MatMul(b, v)\n z = MatMul(b, w) }"""
    draw, x = np.random.default_rng(7), sample(6)
    v, w = (draw.standard_normal((6, n)).astype(np.float32) * s for n, s in ((4, 100), (2, 0.01)))
    analysis = sketch(body, u=(3, 6), v=v, w=w)
    results = {name: x @ m.astype(np.float64) for name, m in (("y", v), ("z", w))}
    covariance = gram(x).covariance[0]
    sites = [
        (m.T.astype(np.float64) / np.sqrt(results[name].var(0).sum()), covariance, spans(6, 1))
        for name, m in (("y", v), ("z", w))
    ]
    vectors = {name: vector(result) for name, result in results.items()}
    found = score(analysis, "obs", vectors, {"v": gram(x), "w": gram(x)})
    np.testing.assert_allclose(found, eliminated(sites, 6), rtol=1e-5)


@pytest.mark.parametrize("damping", [0.02, 0.5])
def test_obs_is_damped_by_a_share_of_the_mean_variance(damping: float) -> None:
    w, x = np.random.default_rng(1).standard_normal((3, 5)), sample(5)
    covariance = gram(x).covariance[0]
    damped = covariance + damping * np.diagonal(covariance).mean() * np.eye(5)
    found = score(mlp(w), "obs", grams={"w": gram(x)}, damping=damping)
    np.testing.assert_allclose(found, eliminated([(w, damped, spans(5, 1))], 5), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("criterion", ["obs", "thinet"])
@pytest.mark.parametrize("products", [True, False])
def test_a_site_that_reads_what_is_not_finite_is_named(criterion: str, bad: float, products: bool) -> None:
    """Whatever its results are."""
    w, x = np.random.default_rng(1).standard_normal((3, 5)), sample(5)
    x[7, 2] = bad
    with np.errstate(invalid="ignore"):
        seen = gram(x) if products else Rows(x[None].astype(np.float32))
    with pytest.raises(ModelError, match=r"^what 'w' reads: the numbers are not all finite"):
        score(mlp(w), criterion, {"y": vector(sample(3))}, grams={"w": seen})


@pytest.mark.parametrize("rows, dual", [(3, True), (6, True), (7, False), (11, False)])
def test_obs_of_few_rows_is_obs_of_their_products(
    rows: int, dual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever side is the cheaper one."""
    taken: list[object] = []

    def counted(*given: object) -> RowSheet:
        taken.append(given)
        return RowSheet(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(criteria, "RowSheet", counted)
    w, x = np.random.default_rng(1).standard_normal((3, 12)), sample(12, rows)
    found = score(mlp(w), "obs", grams={"w": Rows(x[None].astype(np.float32))}, damping=0.05)
    np.testing.assert_allclose(found, score(mlp(w), "obs", grams={"w": gram(x)}, damping=0.05), rtol=1e-3)
    assert bool(taken) == dual


def test_wide_groups_lose_several_units_a_round() -> None:
    draw, x = np.random.default_rng(8), sample(200, 600)
    w, second = draw.standard_normal((3, 200)), gram(x).covariance[0]
    found = eliminate([ColumnSheet(w, np.linalg.inv(second), np.arange(200), np.arange(200))], 200)
    order = np.argsort(found)
    assert len(np.unique(found)) == 200
    for count in (2, 60, 150):
        lost, alone = loss(w, second, order[:count].tolist()), found[order[:count]].sum()
        assert 0.75 * lost < alone < 1.25 * lost  # Units of one round do not know of each other


def test_units_that_stand_in_for_each_other_do_not_all_go() -> None:
    x = sample(6, 400)
    x[:, 3:] = x[:, :3]
    found = score(mlp(np.tile(np.eye(3), 2)), "obs", grams={"w": gram(x)}, damping=1e-6)
    first, last = np.sort(found)[:3], np.sort(found)[3:]
    assert first.max() < 1e-3 * last.min() and {c % 3 for c in np.argsort(found)[:3]} == {0, 1, 2}


@pytest.mark.parametrize("level", [0.0, 1e3])
def test_a_channel_that_never_changes_costs_nothing(level: float) -> None:
    x = sample(4)
    x[:, 1] = level
    found = score(mlp(np.ones((2, 4))), "obs", grams={"w": gram(x)}, damping=0.01)
    assert np.isfinite(found).all()
    assert found[1] < 1e-12 and (np.delete(found, 1) > 1e-3).all()
    if level == 0:
        found = score(mlp(np.ones((2, 4))), "wanda", {"b": vector(x)})
        assert found[1] == 0 and (np.delete(found, 1) > 0).all()


def test_thinet_goes_by_what_is_added_to_the_removed_energy() -> None:
    x, w = sample(5), np.random.default_rng(3).standard_normal((3, 5))
    found = score(mlp(w), "thinet", grams={"w": gram(x)})
    contribution = [np.outer(x[:, c], w[:, c]) for c in range(5)]
    gone: list[int] = []
    for unit in np.argsort(found):
        left = [c for c in range(5) if c not in gone]
        energies = {c: sum((contribution[d] for d in [*gone, c]), 0 * contribution[0]) for c in left}
        assert unit == min(left, key=lambda c: float((energies[c] ** 2).sum()))
        gone.append(int(unit))


def test_thinet_takes_channels_that_cancel_one_after_the_other() -> None:
    energy = np.array([[4.0, -4.0, 0], [-4.0, 4.0, 0], [0, 0, 3.9]])
    assert np.argsort(greedy(energy)).tolist() == [2, 0, 1]
    energy[2, 2] = 4.1
    assert np.argsort(greedy(energy)).tolist() == [0, 1, 2]


def test_hrank_reads_maps_behind_the_activation() -> None:
    analysis = sketch(CONV.format(rows=2), u=(3, 2, 1, 1), w=(2, 3, 2, 2))
    assert CRITERIA["hrank"].wanted(analysis.prunable, SiteIndex(analysis)).ranks == {"b"}
    np.testing.assert_allclose(score(analysis, "hrank", ranks={"b": ranks([3, 1, 2])}), [3, 1, 2])


def test_apoz_is_the_share_that_fires() -> None:
    x = np.array([[0, 1, 1.0], [0, 1, 0], [2, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(score(mlp(np.ones((2, 3))), "apoz", {"b": vector(x)}), [0.25, 1, 0.25])


def test_minitron_is_the_mean_activation_once_per_channel() -> None:
    x = np.array([[3, 0, -1.0], [4, 1, 0]])
    np.testing.assert_allclose(score(mlp(np.ones((2, 3))), "minitron", {"b": vector(x)}), [5, 1, 1])
    analysis = sketch(CONV.format(rows=2), u=(3, 2, 1, 1), w=(2, 3, 2, 2))
    np.testing.assert_allclose(score(analysis, "minitron", {"b": vector(x)}), [5, 1, 1])


GATED = """(float[n,6] x) => (float[n,6] y) { g = MatMul(x, wg)\n s = Sigmoid(g)\n u = MatMul(x, wu)
    h = Mul(s, u)\n y = MatMul(h, wd) }"""


def test_cfsp_by_columns_is_activation_alone() -> None:
    analysis, x = sketch(GATED, wg=(6, 9), wu=(6, 9), wd=(9, 6)), sample(9)
    activity = np.sqrt((x**2).mean(0))
    found = score(analysis, "cfsp", {"h": vector(x)}, bars="column")
    np.testing.assert_allclose(found, 3 * activity / 6, rtol=1e-6)
    assert np.abs(score(analysis, "cfsp", {"h": vector(x)}) / found - 1).max() > 0.05


def test_cfsp_by_rows_compares_within_a_row() -> None:
    wg, wu = np.array([[1, 3]], np.float32), np.array([[2, 2]], np.float32)
    analysis = sketch(GATED.replace("6]", "1]"), wg=wg, wu=wu, wd=np.array([[1], [4]], np.float32))
    found = score(analysis, "cfsp", {"h": vector(np.array([[2, 1]]))})
    np.testing.assert_allclose(found, [2 * (1 / 4 + 2 / 4 + 2 / 6), 1 * (3 / 4 + 2 / 4 + 4 / 6)])


def test_a_flattened_channel_owns_several_columns() -> None:
    body = """(float[n,2,4,4] x) => (float[n,5] y) { a = Conv(x, u)\n b = Relu(a)\n f = Flatten(b)
        y = Gemm <transB = 1> (f, w) }"""
    w = np.random.default_rng(4).standard_normal((5, 48)).astype(np.float32)
    analysis, x = sketch(body, u=(3, 2, 1, 1), w=w), sample(48, 200)
    columns = np.abs(w).sum(0) * np.sqrt((x**2).sum(0))
    np.testing.assert_allclose(
        score(analysis, "wanda", {"f": vector(x)}), columns.reshape(3, 16).sum(1), rtol=1e-5
    )
    site = (w.astype(float), gram(x).covariance[0], spans(3, 16))
    np.testing.assert_allclose(score(analysis, "obs", grams={"w": gram(x)}), eliminated([site], 3), rtol=1e-4)


def test_concatenated_groups_read_their_own_section() -> None:
    body = """(float[n,3] x) => (float[n,2] y) { a = MatMul(x, u)\n b = MatMul(x, v)
        c = Concat <axis = 1> (a, b)
        y = MatMul(c, w) }"""
    w = np.arange(1, 11, dtype=np.float32).reshape(5, 2)
    analysis = sketch(body, u=(3, 2), v=(3, 3), w=w)
    x = np.array([[1, 2, 3, 4, 5]])
    column = np.abs(w).sum(1) * x[0]
    np.testing.assert_allclose(score(analysis, "wanda", {"c": vector(x)}, group="u:1"), column[:2])
    np.testing.assert_allclose(score(analysis, "wanda", {"c": vector(x)}, group="v:1"), column[2:])


def test_a_stream_sums_over_everything_that_reads_it() -> None:
    body = """(float[n,3] x) => (float[n,2] y) { s = MatMul(x, e)\n h = MatMul(s, u)\n r = Relu(h)
        b = MatMul(r, d)
        t = Add(s, b)\n y = MatMul(t, w) }"""
    u, w = np.array([[1, 2], [3, 4]], np.float32), np.array([[1, 1], [5, 5]], np.float32)
    analysis = sketch(body, e=(3, 2), u=u, d=(2, 2), w=w)
    vectors = {"s": vector(np.array([[1, 2]])), "t": vector(np.array([[10, 20]]))}
    np.testing.assert_allclose(score(analysis, "wanda", vectors, group="e:1"), [3 + 20, 14 + 200])


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_groups_without_sites_have_no_score(criterion: str) -> None:
    body = """(float[4,n,3] x) => (float[4,n,5] y) { l = LSTM <hidden_size = 6> (x, w, r)
        s = Squeeze(l, one)\n y = Einsum <equation = "snk,km->snm"> (s, v) }"""
    analysis = sketch(body, w=(1, 24, 3), r=(1, 24, 6), v=(6, 5), one=np.array([1]))
    places = SiteIndex(analysis)
    assert analysis.prunable and CRITERIA[criterion].wanted(analysis.prunable, places).empty


def test_thinet_counts_shares_of_what_readers_that_differ_in_scale_give() -> None:
    """Ten thousand times smaller results weigh as much: the order is that of readers of one scale."""
    body = """(float[n,3] x) => (float[n,4] y, float[n,2] z) { a = MatMul(x, u)\n b = Relu(a)
        y = MatMul(b, v)\n z = MatMul(b, w) }"""
    draw, x, found = np.random.default_rng(7), sample(6), []
    v, w = (draw.standard_normal((6, n)).astype(np.float32) for n in (4, 2))
    for one, two in ((1.0, 1.0), (128.0, 1 / 128)):
        given = {"v": v * np.float32(one), "w": w * np.float32(two)}
        vectors = {name: vector(x @ given[of].astype(np.float64)) for name, of in (("y", "v"), ("z", "w"))}
        grams = {"v": gram(x), "w": gram(x)}
        found.append(score(sketch(body, u=(3, 6), **given), "thinet", vectors, grams))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_an_inverse_does_not_depend_on_the_unit_of_what_is_measured(scale: float, damping: float) -> None:
    """Nor does what is added to a matrix that is not positive, which is no more than it takes."""
    rows = sample(6, rows=3)
    second = rows.T @ rows
    found = inverted(second.copy(), damping)
    np.testing.assert_allclose(inverted(scale * second, damping) * scale, found, rtol=1e-6)
    added = np.linalg.inv(found) - second
    np.testing.assert_allclose(added, np.diag(np.diagonal(added)), atol=1e-4 * np.diagonal(second).mean())


def test_units_that_a_product_does_not_read_share_nothing_there() -> None:
    """Of two units of three columns in all, by moments and by rows; the other two of the Group stay zero."""
    draw = np.random.default_rng(2)
    matrix, x = draw.standard_normal((3, 3)), draw.standard_normal((20, 3))
    units, columns = np.array([2, 0, 2]), np.array([0, 1, 2])
    given = np.zeros((4, 20, 3))
    for unit, column in zip(units, columns, strict=True):
        given[unit] += x[:, [column]] * matrix[:, column]
    wanted = np.einsum("ans,bns->ab", given, given) / 20
    second = x.T @ x / 20
    np.testing.assert_allclose(criteria._summed(matrix, second, units, columns, 4), wanted, atol=1e-12)
    np.testing.assert_allclose(criteria._products(matrix, x, units, columns, 4), wanted, atol=1e-12)


def test_scores_are_what_is_added_and_never_fall() -> None:
    np.testing.assert_allclose(greedy(np.diag([4.0, 1.0, 9.0])), [4, 1, 9])
    energy = np.array([[4.0, -4.0, 0], [-4.0, 4.0, 0], [0, 0, 3.9]])
    np.testing.assert_allclose(greedy(energy), [4, 4, 3.9])


@pytest.mark.parametrize("seed", range(4))
def test_what_is_added_is_the_energy_of_all_that_is_gone(seed: int) -> None:
    """With what the Units that go share: 1' E 1 over them."""
    half = np.random.default_rng(seed).uniform(0, 1, (5, 5))
    energy = half @ half.T  # none cancels another, so what is added rises
    scores = greedy(energy)
    order = np.argsort(scores)
    total = [energy[np.ix_(order[:count], order[:count])].sum() for count in range(6)]
    np.testing.assert_allclose(scores[order], np.diff(total))
