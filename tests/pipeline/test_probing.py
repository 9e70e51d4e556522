"""What outputs lose decides how much each layer gives, within an effort that is fixed before the start."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.errors import ArgumentError
from graphprune.pipeline import prefixes, probing
from graphprune.pipeline.built import built
from graphprune.pipeline.clocks import ladders
from graphprune.pipeline.comparing import Comparison
from graphprune.pipeline.passes import Context
from graphprune.prune.curves import Probes
from graphprune.prune.plan import Plan
from graphprune.runtime.session import open_session
from graphprune_passes.prune import Prune
from tests.axes.claims import sketch

TWO = """(float[n,8] x) => (float[n,4] y) {
    a = MatMul(x, u1)\n b = Tanh(a)\n c = MatMul(b, u2)
    d = MatMul(x, v1)\n e = Tanh(d)\n f = MatMul(e, v2)
    g = Mul(f, small)\n y = Add(c, g) }"""
THREE = """(float[n,8] x) => (float[n,4] y, float[n,6] z) {
    a = MatMul(x, w1)\n b = Relu(a)\n c = MatMul(b, w2)\n d = Tanh(c)\n e = Add(d, b)
    f = MatMul(e, w3)\n g = Relu(f)\n z = MatMul(g, w4)\n h = Relu(e)\n i = MatMul(h, w5)
    j = Sigmoid(i)\n y = MatMul(j, w6) }"""
SAMPLES = {"x": np.random.default_rng(7).standard_normal((128, 8)).astype(np.float32)}
SAMPLES_112 = {"x": SAMPLES["x"][:112]}
CRITERIA = ["prune(macs=0.5", "obspa(macs=0.5", "prune(params=0.5, macs=0.6, criterion=wanda"]


def two() -> ir.Model:
    """Two branches of one size, of which the outputs hardly see the second."""
    model = sketch(TWO, u1=(8, 48), u2=(48, 4), v1=(8, 48), v2=(48, 4), small=()).model
    model.graph.initializers["small"].const_value = ir.tensor(np.array(1e-3, np.float32), name="small")
    return model


def three() -> ir.Model:
    """A stream with a sum, and two outputs."""
    weights = {"w1": (8, 12), "w2": (12, 12), "w3": (12, 10), "w4": (10, 6), "w5": (12, 16), "w6": (16, 4)}
    return sketch(THREE, **weights).model


def kept(passes: str, **options: object) -> dict[str, int]:
    """Kept Units per Group."""
    report = graphprune.compile(two(), passes, calibration=SAMPLES, **options).report  # type: ignore[arg-type]
    return {group.id: group.kept for group in report.passes[0].groups if not group.pin}


@pytest.mark.parametrize("passes", CRITERIA)
def test_a_layer_that_no_output_hears_of_gives_most(passes: str) -> None:
    found = kept(f"{passes}, allocate=output)")
    assert found["v1:1"] < 10 and found["u1:1"] > 38
    blind = kept(f"{passes}, allocate=local)")
    assert abs(blind["v1:1"] - blind["u1:1"]) < 20


def test_auto_asks_the_outputs_from_32_samples_on() -> None:
    assert kept("prune(macs=0.5)") == kept("prune(macs=0.5, allocate=output)")
    few = {"x": SAMPLES["x"][:31]}
    cuts = [
        graphprune.compile(two(), f"prune(macs=0.5{more})", calibration=few).plans[0].cuts
        for more in ("", ", allocate=local")
    ]
    assert cuts[0] == cuts[1]
    assert kept("prune(ratio=0.5)") == kept("prune(ratio=0.5, allocate=local)")


CHOICE = """(float[n,8] x) => (int64[n] y) {
    a = MatMul(x, w)\n b = Relu(a)\n c = MatMul(b, u)\n y = ArgMax <axis = 1, keepdims = 0> (c) }"""


def test_a_model_that_says_no_more_than_its_choice_is_cut_by_scores() -> None:
    model = sketch(CHOICE, w=(8, 16), u=(16, 4)).model
    report = graphprune.compile(model, "prune(macs=0.5)", calibration=SAMPLES).report
    assert report.budgets[0].met and not any("allocate" in line for line in report.passes[0].notes)
    with pytest.raises(ArgumentError, match="needs an output of floating numbers"):
        graphprune.compile(model, "prune(macs=0.5, allocate=output)", calibration=SAMPLES)


@pytest.mark.parametrize(
    ("passes", "samples", "said"),
    [
        ("prune(macs=0.5, allocate=output)", 31, "needs 32 calibration samples"),
        ("prune(ratio=0.5, allocate=output)", 64, "needs a budget in params, macs, bytes"),
        ("prune(macs=0.5, scope=local, allocate=output)", 64, "needs scope=global"),
        ("cfsp(macs=0.9, allocate=output)", 64, "is not for cfsp"),
        ("obspa(macs=0.5, calibration=free, allocate=output)", 64, "calibration=free"),
    ],
)
def test_where_outputs_cannot_decide_it_says_why(passes: str, samples: int, said: str) -> None:
    some = {"x": SAMPLES["x"][:samples]}
    with pytest.raises(ArgumentError, match=said) as caught:
        graphprune.compile(two(), passes, calibration=some)
    assert caught.value.exit_code == 2 and "allocate=local" in caught.value.hint


@pytest.mark.parametrize(("runs", "tried"), [(3, 10), (1, 6), (0, 0)])
def test_effort_is_counted_in_multiply_adds_behind_the_cut(
    runs: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 112 samples, 28 are compared on; a run over the other 84 is three of all nodes, and six of a branch.

    Two Groups have five steps each.
    """
    monkeypatch.setattr(probing, "RUNS", runs)
    report = graphprune.compile(two(), "prune(macs=0.5, allocate=output)", calibration=SAMPLES).report
    (line,) = [line for line in report.passes[0].notes if "were tried" in line]
    assert f"{tried} cuts of {min(2, tried)} of 2 groups" in line


def test_where_probes_mislead_scores_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Group is said to lose what the other does."""
    probe = probing.Probing.probes

    def crossed(self: probing.Probing, cost: CostModel) -> Probes:
        found = probe(self, cost)
        one, two = found
        return {one: found[two], two: found[one]}

    honest = kept("obspa(macs=0.5, allocate=output)")
    blind = kept("obspa(macs=0.5, allocate=local)")
    monkeypatch.setattr(probing.Probing, "probes", crossed)
    report = graphprune.compile(two(), "obspa(macs=0.5, allocate=output)", calibration=SAMPLES).report
    assert {group.id: group.kept for group in report.passes[0].groups if not group.pin} == blind != honest
    assert any("scores decide" in line for line in report.passes[0].notes)


NORM = """(float[n,8] x) => (float[n,4] y) {
    a = MatMul(x, w)\n b = Relu(a)\n m = ReduceMean <keepdims = 1> (b, last)\n d = Sub(b, m)
    p = Mul(d, d)\n v = ReduceMean <keepdims = 1> (p, last)\n s = Add(v, eps)\n r = Sqrt(s)
    i = Reciprocal(r)\n z = Mul(d, i)\n y = MatMul(z, u) }"""


def test_a_probe_under_a_norm_sees_what_the_cut_makes_of_the_rest() -> None:
    """So it loses what the cut does once it is made and repaired, hence what the result will."""
    eps = np.array(1e-5, np.float32)
    analysis = sketch(NORM, w=(8, 32), u=(32, 4), last=np.array([1]), eps=eps)
    (group,) = analysis.prunable
    item, context = Prune(macs=0.5, repair="refit"), Context(calibration=(SAMPLES,))
    steps = ladders([group], {group.id: np.arange(group.size, dtype=float)}, 1, 0.1)
    probe = probing.Probing(analysis, steps, [group], "refit", context)
    (found,) = probe.probes(CostModel(analysis, {})).values()
    count = max(found)
    cuts = {group.id: tuple(sorted(steps[0].order[count:].tolist()))}
    (made,) = Comparison(item, analysis, context, *probe.split).losses([cuts], "refit")
    assert found[count] == pytest.approx(made, rel=0.05)


@pytest.mark.parametrize(("least", "most", "held"), [(8, 128, 28), (8, 16, 16), (2, 2, 2)])
def test_few_groups_leave_effort_for_more_samples(
    least: int, most: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "LEAST", least)
    monkeypatch.setattr(probing, "MOST", most)
    found = probing.Probing(analyse(two()), [], [], "none", Context(calibration=(SAMPLES_112,)))
    assert len(found.split[0][0]["x"]) == held and len(found.split[1][0]["x"]) == 112 - held


def test_the_same_plan_for_any_number_of_jobs() -> None:
    results = [
        graphprune.compile(two(), "obspa(macs=0.4, allocate=output)", calibration=SAMPLES, jobs=jobs)
        for jobs in (1, 2, 1)
    ]
    files = [result.proto().SerializeToString() for result in results]
    cuts = [result.plans[0].cuts for result in results]
    assert cuts[0] == cuts[1] == cuts[2] and files[0] == files[1] == files[2]


def test_rounds_probe_what_is_left() -> None:
    found = kept("obspa(macs=0.4, rounds=2, allocate=output)")
    assert found["v1:1"] < 10 < found["u1:1"]


def test_of_several_budgets_all_hold_where_outputs_decide() -> None:
    passes = "obspa(macs=0.6, params=0.5, bytes=0.7, allocate=output)"
    report = graphprune.compile(two(), passes, calibration=SAMPLES).report
    assert all(budget.met for budget in report.budgets) and len(report.budgets) == 3
    assert min(budget.asked - budget.left for budget in report.budgets) < 0.02


@pytest.mark.parametrize("room", [2**29, 0])
def test_a_probe_from_stored_values_says_what_a_whole_run_says(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "BYTES", room)
    analysis = analyse(three())
    data = [{"x": SAMPLES["x"][:8]}, {"x": SAMPLES["x"][8:20]}]
    held = prefixes.Prefixes(analysis.model, data)
    macs = dict.fromkeys(analysis.model.graph, 1)
    every = [prefixes.suffix_of(analysis.model, group, macs) for group in analysis.prunable]
    assert len({suffix.share for suffix in every}) > 1
    held.store(every)
    for group, suffix in zip(analysis.prunable, every, strict=True):
        cut = Plan(analysis.options, {group.id: tuple(range(group.size // 2))}, {group.id: group.size})
        run = held.run(built(analysis, cut), suffix)
        full = open_session(built(analysis, cut), exact=True)
        for feeds in data:
            for name, array in full.run(feeds).items():
                np.testing.assert_allclose(run(feeds)[name], array, rtol=1e-5, atol=1e-6)


HEADS = """(float[n,8] x) => (float[n,8] y) {
    a = MatMul(x, w)\n s = Shape(x)\n b = Gather(s, first)\n t = Concat<axis=0>(b, heads)\n c = Reshape(a, t)
    d = Transpose<perm=[0, 2, 1]>(c)\n e = Softmax(d)\n f = Transpose<perm=[0, 2, 1]>(e)
    u = Concat<axis=0>(b, flat)\n g = Reshape(f, u)\n y = MatMul(g, v) }"""


def test_sizes_that_a_cut_writes_into_a_graph_are_not_those_of_the_dense_model() -> None:
    model = sketch(
        HEADS, w=(8, 48), v=(48, 8), first=np.array([0]), heads=np.array([4, 12]), flat=np.array([-1])
    ).model
    result = graphprune.compile(model, "prune(macs=0.7, allocate=output)", calibration=SAMPLES)
    assert result.report.passes[0].proof.ok
    assert any(group.kept < group.width for group in result.report.passes[0].groups)
