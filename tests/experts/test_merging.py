"""Clusters of experts and their merges; the pass on a small mixture."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis, analyse
from graphprune.errors import ArgumentError, PromiseError
from graphprune.experts.keep import Clusters, kept_each, kept_share
from graphprune.experts.merging import Editor, _k_means, representative, spectral, stun_distances, thresholds
from graphprune.experts.mixtures import find_mixtures
from graphprune.ir.arrays import Doubles
from graphprune.runtime.session import open_session
from tests.proof.building import model

C, F, E, TOP = 6, 5, 4, 2
X = {"x": np.random.default_rng(4).standard_normal((64, C)).astype(np.float32)}


def mixture(change: dict[str, np.ndarray] | None = None, stacked: bool = False) -> ir.Model:
    """A residual layer of four experts, top 2, in unrolled or stacked form."""
    draw = np.random.default_rng(2)
    weights: dict[str, np.ndarray] = {"wr": draw.standard_normal((C, E)), "br": np.zeros(E)}
    for e in range(E):
        weights |= {f"u{e}": draw.standard_normal((C, F)), f"d{e}": draw.standard_normal((F, C))}
        weights |= {f"a{e}": draw.standard_normal(F), f"o{e}": draw.standard_normal(C)}
    weights |= change or {}
    body = f"""(float[n,{C}] x) => (float[n,3] y) {{ l = MatMul(x, wr)\n l1 = Add(l, br)
        best, index = TopK <axis = -1> (l1, k)\n share = Softmax <axis = -1> (best)\n none = Sub(l1, l1)
        gates = ScatterElements <axis = -1> (none, index, share)\n"""
    if stacked:
        stacks = {
            n: np.stack([weights.pop(f"{c}{e}") for e in range(E)]) for n, c in (("up", "u"), ("down", "d"))
        }
        for e in range(E):
            del weights[f"a{e}"], weights[f"o{e}"]
        weights |= stacks
        body += """all = Unsqueeze(x, first)\n h = MatMul(all, up)\n g = Relu(h)\n o = MatMul(g, down)
            turned = Transpose <perm = [1, 0]> (gates)\n open = Unsqueeze(turned, last)\n m = Mul(o, open)
            r = ReduceSum <keepdims = 0> (m, first)\n"""
    else:
        for e in range(E):
            body += f"""p{e} = Slice(gates, s{e}, s{e + 1}, last)\n h{e} = MatMul(x, u{e})
                i{e} = Add(h{e}, a{e})\n g{e} = Relu(i{e})\n j{e} = MatMul(g{e}, d{e})
                k{e} = Add(j{e}, o{e})\n m{e} = Mul(k{e}, p{e})\n"""
        body += "r = Sum(" + ", ".join(f"m{e}" for e in range(E)) + ")\n"
    body += "z = Add(x, r)\n y = MatMul(z, head) }"
    constants = {f"s{e}": np.array([e]) for e in range(E + 1)} if not stacked else {"first": np.array([0])}
    floats = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    return model(body, 18, **floats, **constants, k=np.array([TOP]), last=np.array([-1]), head=(C, 3))


def run(net: ir.Model) -> np.ndarray:
    return open_session(net).run(X)["y"]


def twins(stacked: bool = False) -> tuple[ir.Model, np.ndarray]:
    """Experts 1 and 3 are one expert with its neurons in another order, and score alike."""
    draw, order = np.random.default_rng(8), np.array([3, 0, 4, 2, 1])
    u, d, a, o = (draw.standard_normal(s) for s in ((C, F), (F, C), F, C))
    router = draw.standard_normal((C, E))
    router[:, 3] = router[:, 1]
    twin = {"u1": u, "d1": d, "a1": a, "o1": o, "u3": u[:, order], "d3": d[order], "a3": a[order], "o3": o}
    return mixture(twin | {"wr": router}, stacked), order


def editor(net: ir.Model) -> tuple[Analysis, Editor]:
    analysis = analyse(net)
    return analysis, Editor(analysis, find_mixtures(analysis).found[0])


@pytest.mark.parametrize("stacked", [False, True])
def test_permuted_twins_merge_to_the_same_function(stacked: bool) -> None:
    _, one = editor(twins(stacked)[0])
    before = one.read(1)
    one.merge(1, [1, 3], [3.0, 1.0], align=True)
    assert all(np.allclose(new, old, atol=1e-6) for new, old in zip(one.read(1), before, strict=True))
    _, two = editor(twins(stacked)[0])
    two.merge(1, [1, 3], [3.0, 1.0], align=False)
    assert max(np.abs(new - old).max() for new, old in zip(two.read(1), before, strict=True)) > 0.1


def test_a_merge_weighs_by_use_and_touches_no_other_expert() -> None:
    net = mixture(stacked=True)
    _, one = editor(net)
    up, rows = one.array(net.graph.initializers["up"]).copy(), one.router()
    one.merge(2, [0, 2], [1.0, 3.0], align=False)
    after = one.replaced["up"]
    assert np.allclose(after[2], 0.25 * up[0] + 0.75 * up[2], atol=1e-6)
    assert np.array_equal(after[[0, 1, 3]], up[[0, 1, 3]])
    assert np.allclose(one.router()[2], 0.25 * rows[0] + 0.75 * rows[2], atol=1e-6)


def test_experts_without_tokens_count_alike() -> None:
    _, one = editor(mixture(stacked=True))
    first, second = one.read(0)[0].copy(), one.read(1)[0].copy()
    one.merge(0, [0, 1], [0.0, 0.0], align=False)
    assert np.allclose(one.read(0)[0], (first + second) / 2, atol=1e-6)


POINTS = np.array([[0, 0], [0.25, 0], [5, 5], [5.25, 5], [20, 0]])
GAPS = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=2)


def clusters(distances: Doubles, count: int) -> list[int]:
    """The clusters of one layer alone."""
    return thresholds([distances], [1], count)[0].tolist()


def test_two_tight_pairs_and_an_outlier_are_three_clusters() -> None:
    assert clusters(GAPS, 3) == [0, 0, 1, 1, 2]


def test_a_chain_is_not_one_cluster() -> None:
    """Complete linkage: a-b and b-c are close, a-c is not, so that d and e join before c does."""
    line = np.array([0.0, 1.0, 2.0, 7.0, 8.5])
    assert clusters(np.abs(line[:, None] - line[None]), 3) == [0, 0, 1, 2, 2]


@pytest.mark.parametrize("count", [3, 2, 1])
def test_experts_at_less_than_no_distance_join_first(count: int) -> None:
    """As where they are chosen together."""
    distances = np.array([[0.0, -1.0, 2.0], [-1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    assert clusters(distances, count) == {3: [0, 1, 2], 2: [0, 0, 1], 1: [0, 0, 0]}[count]


def test_one_threshold_for_all_layers_hits_the_total() -> None:
    loose = GAPS * 10
    for total in range(2, 11):
        counts = [int(each.max()) + 1 for each in thresholds([GAPS, loose], [1, 1], total)]
        assert sum(counts) == total
    counts = [int(each.max()) + 1 for each in thresholds([GAPS, loose], [1, 1], 5)]
    assert counts == [2, 3], "the layer of similar experts gives more"


def test_the_threshold_is_what_the_distances_say_whatever_the_sizes() -> None:
    """Merges in the order of their distances over layers, not of how many experts they join."""
    tight = np.abs(np.subtract.outer(*[np.array([0.0, 1, 2, 3])] * 2))
    wide = np.abs(np.subtract.outer(*[np.array([0.0, 100, 200])] * 2))
    counts = [int(each.max()) + 1 for each in thresholds([wide, tight], [1, 1], 4)]
    assert counts == [3, 1], "all of the close ones join before any of those far apart"


def test_a_layer_keeps_what_its_router_picks() -> None:
    counts = [int(each.max()) + 1 for each in thresholds([GAPS, GAPS * 10], [4, 2], 2)]
    assert counts[0] == 4 and counts[1] == 2


def test_experts_chosen_together_come_closer_when_asked() -> None:
    rows, together = np.eye(3), np.array([[5.0, 4, 0], [4, 5, 0], [0, 0, 5]])
    plain = stun_distances(rows, together, 1.0, 0.0)
    assert plain[0, 1] == plain[0, 2]
    mated = stun_distances(rows, together, 1.0, 1.0)
    assert mated[0, 1] < mated[0, 2]


@pytest.mark.parametrize(("rows", "mates"), [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_distances_are_those_of_the_formula(rows: float, mates: float) -> None:
    draw = np.random.default_rng(3)
    router, together = draw.standard_normal((4, 5)), draw.integers(0, 9, (4, 4)).astype(float)
    together += together.T
    pairs = [(i, j) for i in range(4) for j in range(4)]
    length = sum(float(number) ** 2 for number in router.ravel()) ** 0.5
    mean = sum(together[i, j] for i, j in pairs if i != j) / 16
    found = stun_distances(router, together, rows, mates)
    for i, j in pairs:
        apart = sum((a - b) ** 2 for a, b in zip(router[i], router[j], strict=True)) ** 0.5 / length
        near = together[i, j] / mean if i != j else 0
        assert found[i, j] == pytest.approx(rows * apart - mates * near)
    np.testing.assert_allclose(
        stun_distances(router, None, rows, mates), stun_distances(router, together, rows, 0)
    )


def test_experts_that_are_never_together_and_a_router_of_zeros_are_no_error() -> None:
    with np.errstate(all="raise"):
        assert not stun_distances(np.zeros((3, 2)), np.zeros((3, 3)), 1.0, 1.0).any()


def test_a_cluster_is_represented_by_the_member_nearest_to_its_mean() -> None:
    _, one = editor(mixture())
    vectors = [one.flat(unit) for unit in range(E)]
    for members in ([0, 1, 2], [3, 1], [2], [3, 2, 1, 0]):
        mean = np.mean([vectors[member] for member in members], axis=0)
        errors = [float(((vectors[member] - mean) ** 2).sum()) for member in members]
        chosen = representative(one, members)
        assert errors[members.index(chosen)] == pytest.approx(min(errors))


@pytest.mark.parametrize("constant", [0.0, 2.0, 0.1])
def test_an_expert_whose_scores_never_vary_is_a_cluster(constant: float) -> None:
    draw = np.random.default_rng(0)
    one, two = draw.standard_normal((2, 400))
    scores = np.stack([one, np.full(400, constant), two, one], axis=1)
    with np.errstate(all="raise"):
        found = spectral(scores, 3, seed=0)
    assert found.tolist() == [0, 1, 2, 0]


def test_experts_that_cannot_be_told_apart_are_fewer_clusters() -> None:
    same = np.repeat(np.random.default_rng(0).standard_normal((50, 1)), 4, axis=1)
    assert set(spectral(same, 3, seed=0).tolist()) <= {0, 1, 2}


def test_experts_with_like_scores_are_one_spectral_cluster() -> None:
    draw = np.random.default_rng(0)
    base = draw.standard_normal((400, 3))
    scores = np.stack([base[:, i % 3] + 0.05 * draw.standard_normal(400) for i in range(9)], axis=1)
    assert spectral(scores, 3, seed=0).tolist() == [0, 1, 2] * 3
    assert spectral(scores, 9, seed=0).tolist() == list(range(9))


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0.0, 4), (0.2, 4), (0.25, 3), (0.3, 3), (0.5, 2), (0.74, 2), (0.75, 2), (0.99, 2)]
)
def test_a_share_of_every_layer_goes_but_what_its_router_picks(ratio: float, kept: int) -> None:
    layers = find_mixtures(analyse(mixture())).found
    assert kept_share(layers, ratio) == [kept] == [max(TOP, 4 - int(4 * ratio))]
    assert kept_each(layers, max(kept, 2)) == [kept] and kept_each(layers, 9) == [4]


@pytest.mark.parametrize(("merged", "merges"), [(0, False), (2, False), (3, True), (4, True)])
def test_clusters_of_layers_with_few_of_them_are_merged(merged: int, merges: bool) -> None:
    """In others the member nearest to the mean of each stays as it is."""
    analysis = analyse(twins()[0])
    layers = find_mixtures(analysis).found
    cuts, replaced = Clusters("stun", merged=merged).reduce(analysis, layers, [3], None, 0)
    (kept,) = cuts.values()
    assert len(kept) == 3 and len({1, 3} & set(kept)) == 1 and {0, 2} < set(kept)
    assert bool(replaced) == merges


@pytest.mark.parametrize("most", [1, 3])
def test_a_cluster_is_merged_into_its_most_used_member(most: int) -> None:
    analysis = analyse(twins()[0])
    layers = find_mixtures(analysis).found
    used = np.array([5, 1, 5, 1])
    used[most] = 3
    routes = SimpleNamespace(count=used, together=np.zeros((E, E)))
    cuts, _ = Clusters("stun", merged=3).reduce(analysis, layers, [3], [routes], 0)  # type: ignore[list-item]
    assert list(cuts.values()) == [tuple(sorted((0, 2, most)))]


@pytest.mark.parametrize("criterion", ["easy-ep", "reap", "frequency", "gate-sum", "stun", "uncurl"])
@pytest.mark.parametrize("stacked", [False, True])
def test_every_criterion_cuts_and_proves(criterion: str, stacked: bool) -> None:
    result = graphprune.compile(
        mixture(stacked=stacked), f"experts(keep=3, criterion={criterion})", calibration=X
    )
    (kept,) = result.plans[0].cuts.values()
    assert len(kept) == 3 and result.report.passes[0].proof.ok
    assert result.model.graph.initializers["wr"].shape == (C, 3) or criterion in ("stun", "uncurl")


@pytest.mark.parametrize("criterion", ["easy-ep", "reap", "frequency", "gate-sum"])
def test_an_expert_that_is_never_chosen_goes_first_and_nothing_changes(criterion: str) -> None:
    net = mixture({"br": np.array([0.0, 0, -1e3, 0])})
    result = graphprune.compile(net, f"experts(keep=3, criterion={criterion})", calibration=X)
    assert result.plans[0].cuts == {"wr:1": (0, 1, 3)}
    assert np.allclose(run(result.model), run(net), atol=1e-5)
    assert any("1 experts of 'wr:1' got no token" in line for line in result.report.warnings)


def test_uncurl_merges_twins_without_changing_the_function_of_either() -> None:
    """Both are chosen together or not at all, so their weights sum to the weight of the merged one."""
    net, _ = twins()
    result = graphprune.compile(net, "experts(keep=3, criterion=uncurl)", calibration=X)
    (kept,) = result.plans[0].cuts.values()
    assert len({1, 3} & set(kept)) == 1


def test_the_router_must_be_left_with_what_it_picks() -> None:
    with pytest.raises(ArgumentError, match="keep must be at least 2, got 1"):
        graphprune.compile(mixture(), "experts(keep=1)", calibration=X)
    report = graphprune.compile(mixture(), "experts(ratio=0.9, criterion=frequency)", calibration=X).report
    assert report.passes[0].groups[0].kept == TOP or any(g.kept == TOP for g in report.passes[0].groups)


def test_a_budget_of_parameters() -> None:
    report = graphprune.compile(mixture(), "experts(params=0.7, criterion=frequency)", calibration=X).report
    assert report.after.params <= 0.7 * report.before.params
    with pytest.raises(PromiseError, match=r"params=0\.1 cannot be met"):
        graphprune.compile(mixture(), "experts(params=0.1, criterion=frequency)", calibration=X)


def test_a_model_without_experts_or_data_says_so() -> None:
    flat = model("(float[n,4] x) => (float[n,3] y) { y = MatMul(x, w) }", w=(4, 3))
    with pytest.raises(PromiseError, match="no layer of experts"):
        graphprune.compile(flat, "experts")
    with pytest.raises(ArgumentError, match="criterion=easy-ep needs calibration data"):
        graphprune.compile(mixture(), "experts")
    with pytest.raises(ArgumentError, match="no layer of experts is called 'mlp"):
        graphprune.compile(mixture(), 'experts(only="mlp*")', calibration=X)


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_the_best_of_all_by_the_distance_to_their_means(seed: int) -> None:
    """Of nine points and three clusters; nearest neighbours that are joined first miss it in two cases."""
    rows = np.random.default_rng(seed).standard_normal((9, 2))

    def spread(labels: np.ndarray) -> float:
        parts = [rows[labels == label] for label in np.unique(labels)]
        return sum(float(np.square(part - part.mean(axis=0)).sum()) for part in parts)

    every = (np.array((0, *rest)) for rest in product(range(3), repeat=8))
    best = min(spread(labels) for labels in every if len(set(labels.tolist())) == 3)
    found = _k_means(rows, 3, seed=0)
    assert len(set(found.tolist())) == 3 and spread(found) == pytest.approx(best)


def test_more_clusters_than_different_points_are_as_many_as_these() -> None:
    rows = np.array([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0], [5.0, 5.0], [0.0, 1.0]])
    found = _k_means(rows, 3, seed=0)
    assert found[0] == found[2] == found[4] != found[1] == found[3]
