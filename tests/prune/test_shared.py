"""Layers that are applied more than once: cut alike, scored and repaired once, and still one tensor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis, Options, analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.prune.bias import with_biases
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.plan import Plan
from graphprune.prune.repair import Change, Repaired, Way, repair, wanted_grams
from graphprune.prune.repair.shared import beside
from graphprune.prune.repair.stage import Stage
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.session import open_session
from graphprune.statistics.collect import collect
from tests.axes.claims import proves, sketch, units
from tests.prune.test_repair import distance, half, twin

SIAMESE = """(float[n,3,6,6] p, float[n,3,6,6] q) => (float[n,5] y, float[n,5] z) {
    a = Conv <pads = [1, 1, 1, 1]> (p, w1, b1)\n c = Relu(a)\n d = Conv(c, w2, b2)\n e = Relu(d)
    f = Flatten(e)\n y = Gemm(f, w3, b3)
    g = Conv <pads = [1, 1, 1, 1]> (q, w1, b1)\n h = Relu(g)\n i = Conv(h, w2, b2)\n j = Relu(i)
    k = Flatten(j)\n z = Gemm(k, w3, b3) }"""
RECURRENT = """(float[n,6] x) => (float[n,4] y) { a = Gemm(x, u, c)\n s = Tanh(a)
    d = Gemm(s, w, b)\n t = Tanh(d)\n e = Gemm(t, w, b)\n v = Tanh(e)\n f = Gemm(v, w, b)\n r = Tanh(f)
    y = Gemm(r, o, k) }"""


def siamese() -> Analysis:
    draw = np.random.default_rng(3)
    shapes = {"w1": (12, 3, 3, 3), "b1": (12,), "w2": (16, 12, 3, 3), "b2": (16,), "w3": (256, 5), "b3": (5,)}
    scale = {
        name: 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else 16) for name, shape in shapes.items()
    }
    weights = {n: (draw.standard_normal(s) * scale[n]).astype(np.float32) for n, s in shapes.items()}
    return sketch(SIAMESE, **weights)


def recurrent() -> Analysis:
    draw = np.random.default_rng(4)
    shapes = {"u": (6, 32), "c": (32,), "w": (32, 32), "b": (32,), "o": (32, 4), "k": (4,)}
    return sketch(
        RECURRENT, **{n: (draw.standard_normal(s) / 4).astype(np.float32) for n, s in shapes.items()}
    )


def data(analysis: Analysis, batches: int = 2, size: int = 64, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Inputs near a plane; those of the second branch are of another kind."""
    draw, found = np.random.default_rng(seed), []
    planes = np.random.default_rng(0)
    shapes = {
        v.name or "": [d for d in v.shape or () if isinstance(d, int)] for v in analysis.model.graph.inputs
    }
    bases = {name: planes.standard_normal((5, int(np.prod(shape)))) for name, shape in shapes.items()}
    for _ in range(batches):
        rows = {n: draw.standard_normal((size, 5)) @ bases[n] + (n == "q") for n in shapes}
        found.append({n: r.reshape(size, *shapes[n]).astype(np.float32) for n, r in rows.items()})
    return found


@pytest.mark.parametrize("make", [siamese, recurrent])
@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
def test_a_layer_that_is_applied_twice_is_repaired_once_and_stays_one(make: object, driver: str) -> None:
    analysis: Analysis = make()  # type: ignore[operator]
    cuts, seen, unseen = half(analysis), data(analysis), data(analysis, seed=9)
    none = repair(analysis, Change(cuts), Way("none"))
    widths = {group.id: group.size for group in analysis.prunable}
    grams = collect(analysis.model, seen, wanted_grams(analysis))
    made = repair(analysis, Change(cuts), Way(driver=driver), batches=seen, statistics=grams)  # type: ignore[arg-type]
    assert not made.notes
    shared = {name for name, value in analysis.model.graph.initializers.items() if len(value.uses()) > 1}
    assert shared & set(made.replaced)
    before, after = (distance(analysis.model, twin(analysis, cuts, each), unseen) for each in (none, made))
    assert after < 0.7 * before
    biased = with_biases(analysis.model, made.biases)
    assert set(biased.graph.initializers) == set(analysis.model.graph.initializers)
    again = analyse(biased, analysis.options)
    small = rewrite(biased, again, Plan(again.options, cuts, widths, replaced=made.replaced))
    assert set(small.graph.initializers) == set(analysis.model.graph.initializers)
    assert all(len(small.graph.initializers[name].uses()) > 1 for name in shared)


def test_a_shared_weight_fits_the_rows_of_all_its_readers() -> None:
    """Better on both branches together than what either branch alone would have made of it."""
    analysis, seen = siamese(), data(siamese())
    cuts = half(analysis)
    both = repair(analysis, Change(cuts), Way(refresh=False), batches=seen)
    losses = []
    for feed in ("p", "q", None):
        one = [{"p": b[feed or "p"], "q": b[feed or "q"]} for b in seen]
        made = both if feed is None else repair(analysis, Change(cuts), Way(refresh=False), batches=one)
        losses.append(_joint_loss(analysis, cuts, made, seen))
    assert losses[2] < min(losses[:2])


def _joint_loss(analysis: Analysis, cuts: object, made: Repaired, seen: list[dict[str, np.ndarray]]) -> float:
    sessions = [open_session(m) for m in (analysis.model, twin(analysis, cuts, made))]  # type: ignore[arg-type]
    outs = [[np.concatenate(list(s.run(feed).values())) for feed in seen] for s in sessions]
    return float(np.mean([(a - b) ** 2 for a, b in zip(*outs, strict=True)]))


def test_a_bias_that_another_layer_reads_is_left_alone() -> None:
    body = """(float[n,8] x) => (float[n,4] y, float[n,4] z) { a = Gemm(x, w, b)\n c = Relu(a)
        d = Gemm(c, v, b)\n e = Relu(d)\n y = MatMul(e, o)\n z = MatMul(c, o2) }"""
    analysis = sketch(body, w=(8, 12), b=(12,), v=(12, 12), o=(12, 4), o2=(12, 4))
    made = repair(analysis, Change(half(analysis)), batches=data(analysis))
    assert "v" in made.replaced and "d" not in made.biases
    model = with_biases(analysis.model, made.biases)
    assert sum(v.uses() != () for v in model.graph.initializers.values()) == len(made.biases) + 5


def test_what_is_applied_twice_counts_once_and_its_clones_count_each() -> None:
    tied, split = siamese(), sketch(SIAMESE, Options(share="split"), **_weights(siamese()))
    assert len(units(tied)) * 2 == len(units(split))
    group = next(g for g in split.prunable if g.id.startswith("w1"))
    cut = CostModel(split, {}).params(Kept(split, {group.id: tuple(range(6))}))
    sizes = {name: array.size for name, array in _weights(siamese()).items()}
    halves = sizes["w1"] // 2 + 6 + sizes["w2"] // 2  # the copy of the branch that is cut
    assert cut == sum(sizes.values()) + halves
    proves(tied)


def _weights(analysis: Analysis) -> dict[str, np.ndarray]:
    held = analysis.model.graph.initializers.items()
    return {
        name: np.array(value.const_value.numpy()) for name, value in held if value.const_value is not None
    }


def test_scores_read_the_rows_of_all_readers() -> None:
    places = SiteIndex(siamese())
    sinks = [sink for group in places.analysis.prunable for sink in places.sinks(group)]
    assert [len(sink.readers) for sink in sinks] == [2, 2]


def test_readers_of_a_weight_stand_side_by_side_only_where_none_reads_the_other() -> None:
    for analysis, together in ((siamese(), True), (recurrent(), False)):
        nodes = list(analysis.model.graph)
        by_weight: dict[str, list[ir.Node]] = {}
        for node in nodes:
            if node.op_type in ("Conv", "Gemm"):
                by_weight.setdefault(node.inputs[1].name or "", []).append(node)  # type: ignore[union-attr]
        bundles = [bundle for bundle in by_weight.values() if len(bundle) > 1]
        stage = beside(Stage(analysis.model, analysis.sizes, {}, {}), bundles)
        assert bool(stage.whole) == together
        names = [node.outputs[0].name for node in stage.model.graph]
        assert sorted(names) == sorted(node.outputs[0].name for node in nodes)
        for whole in stage.whole:
            places = [names.index(name) for name in whole]
            assert places == list(range(places[0], places[0] + len(whole)))


def test_the_budget_is_met_with_both_branches_still_one() -> None:
    analysis = siamese()
    dense = ir.to_proto(analysis.model)
    result = graphprune.compile(dense, "obspa(params=0.6)", calibration=data(analysis)[0])
    report = result.report
    assert report.after.params <= 0.6 * report.before.params
    names = [each.name for each in result.proto().graph.initializer]
    assert sorted(names) == ["b1", "b2", "b3", "w1", "w2", "w3"]


def test_readers_of_a_weight_that_nothing_else_meets_stand_side_by_side_too() -> None:
    """Each of them reads an input and gives an output; what lies between them meets nothing, either."""
    analysis = sketch(
        """(float[n,3] p, float[n,3] q, float[n,3] r) => (float[n,4] y, float[n,3] s, float[n,4] z) {
        y = MatMul(p, w)\n s = Tanh(r)\n z = MatMul(q, w) }""",
        w=(3, 4),
    )
    nodes = list(analysis.model.graph)
    stage = beside(Stage(analysis.model, analysis.sizes, {}, {}), [[nodes[0], nodes[2]]])
    assert [node.outputs[0].name for node in stage.model.graph] == ["y", "z", "s"]
