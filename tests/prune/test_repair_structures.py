"""Repair behind sublayers and experts that go, and after a search: closer to the dense model, and proved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis, analyse
from graphprune.axes.sublayers import find_sublayers
from graphprune.errors import ArgumentError
from graphprune.experts.mixtures import find_mixtures
from graphprune.pipeline.report import plain
from graphprune.prune.plan import Plan
from graphprune.prune.repair import Change, Way, repair
from graphprune.prune.repair.stage import Stage, staged
from graphprune.prune.rewrite import rewrite
from graphprune.report.compiled import tables
from graphprune.report.html import render
from graphprune.runtime.session import open_session
from tests.axes.test_experts import FORMS, LOGITS, OUT, UNROLLED, WEIGHTS, built, comparisons, graph
from tests.experts.test_merging import E, X, mixture, twins
from tests.proof.building import model
from tests.prune.test_allowance import DATA as TASKS
from tests.prune.test_allowance import TWO

Array = np.ndarray
C, F, LAYERS = 12, 16, 4


def stack(biased: bool = True) -> ir.Model:
    """Feed-forward sublayers on one stream, with or without biases, and a head."""
    draw, body, weights, stream = np.random.default_rng(1), "", {}, "x"
    for n in range(LAYERS):
        add = (f"i{n} = Add(h{n}, a{n})", f"c{n} = Add(b{n}, o{n})") if biased else ("", "")
        inner, outer = (f"i{n}", f"c{n}") if biased else (f"h{n}", f"b{n}")
        body += f"""h{n} = MatMul({stream}, u{n})\n {add[0]}\n g{n} = Relu({inner})
            b{n} = MatMul(g{n}, d{n})\n {add[1]}\n r{n} = Add({stream}, {outer})\n"""
        stream = f"r{n}"
        weights[f"u{n}"] = draw.standard_normal((C, F)) / np.sqrt(C)
        weights[f"d{n}"] = 0.5 * draw.standard_normal((F, C)) / np.sqrt(F)
        if biased:
            weights |= {f"a{n}": draw.standard_normal(F), f"o{n}": draw.standard_normal(C)}
    weights |= {"head": draw.standard_normal((C, 7))}
    end = f"z = MatMul({stream}, head)\n y = Add(z, last)" if biased else f"y = MatMul({stream}, head)"
    weights |= {"last": draw.standard_normal(7)} if biased else {}
    floats = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    return model(f"(float[n,5,{C}] x) => (float[n,5,7] y) {{ {body} {end} }}", **floats)


def samples(seed: int, count: int = 128) -> dict[str, Array]:
    """Tokens near a plane of few directions, as those of data are."""
    basis = np.random.default_rng(7).standard_normal((5, C))
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((count, 5, 5)) @ basis + 0.1 * draw.standard_normal((count, 5, C))
    return {"x": rows.astype(np.float32)}


SEEN, UNSEEN = samples(0), samples(1)


def distance(one: ir.Model, two: ir.Model, data: Mapping[str, Array]) -> float:
    first, second = (open_session(net).run(data) for net in (one, two))
    return max(float(((first[name] - second[name]) ** 2).mean() / first[name].var()) for name in first)


def far(net: ir.Model, passes: str, seen: Mapping[str, Array], unseen: Mapping[str, Array]) -> float:
    """How far the compiled model is from the dense one on data that was not seen; the compile proves it."""
    return distance(net, graphprune.compile(net, passes, calibration=seen).model, unseen)


def test_what_is_behind_a_sublayer_makes_up_for_it() -> None:
    net = stack()
    ways = [
        far(net, f"depth(remove=1, only=c1, criterion=reverse, repair={how})", SEEN, UNSEEN)
        for how in ("none", "bias", "refit")
    ]
    assert ways[1] < 0.9 * ways[0] and ways[2] < 0.3 * ways[1]


def test_only_weights_behind_the_sublayer_change() -> None:
    (plan,) = graphprune.compile(stack(), "depth(remove=2, ignore=[c0, c3])", calibration=SEEN).plans
    assert set(plan.bypassed) == {"c1", "c2"}
    assert set(plan.replaced) == {"u3", "d3", "head"} and set(plan.biases) == {"h3", "b3", "z"}


def test_repair_is_automatic_where_there_is_data() -> None:
    repaired = graphprune.compile(stack(), "depth(remove=1, only=c1)", calibration=SEEN)
    assert repaired.plans[0].replaced and "repair=auto: refit" in repaired.report.passes[0].notes[0]
    for passes, data in (
        ("depth(remove=1, criterion=reverse)", None),
        ("depth(remove=1, repair=none)", SEEN),
    ):
        bare = graphprune.compile(stack(), passes, calibration=data)
        assert not bare.plans[0].replaced and not bare.report.warnings
    with pytest.raises(ArgumentError, match="repair=refit needs calibration data"):
        graphprune.compile(stack(), "depth(remove=1, criterion=reverse, repair=refit)")


def test_a_repair_that_nothing_can_carry_says_so() -> None:
    """No biases, so the budget of parameters stays what it was, and there is nothing to shift."""
    found = graphprune.compile(stack(biased=False), "depth(remove=1, only=b1, repair=bias)", calibration=SEEN)
    assert not found.plans[0].biases and "repair=bias changed nothing" in found.report.warnings[0]
    assert far(stack(biased=False), "depth(remove=1, only=b1)", SEEN, UNSEEN) < 0.5 * far(
        stack(biased=False), "depth(remove=1, only=b1, repair=none)", SEEN, UNSEEN
    )


def test_what_goes_is_a_note_and_no_warning() -> None:
    report = graphprune.compile(stack(), "depth(remove=1, repair=none)", calibration=SEEN).report
    (note,) = report.passes[0].notes
    assert note.startswith("sublayer 'c") and "goes (5 nodes): jsd" in note and not report.warnings
    shown = {table.title: table.rows for table in tables(report)}
    assert (note,) in shown[report.passes[0].text] and "Warnings" not in shown
    assert note.split()[-1] in render(report) and plain(report.passes[0].notes) == [note]


def test_norms_behind_a_sublayer_follow_it() -> None:
    text = """(float[n,3,6,6] x) => (float[n,4] y) { s = Conv <pads = [1, 1, 1, 1]> (x, w0)
        a = Conv <pads = [1, 1, 1, 1]> (s, w1)\n b = Relu(a)\n c = Conv <pads = [1, 1, 1, 1]> (b, w2)
        r = Add(s, c)\n n1 = BatchNormalization(r, g, o, m, v)\n t = Relu(n1)
        d = Conv <pads = [1, 1, 1, 1]> (t, w3)\n p = GlobalAveragePool(d)\n f = Flatten(p)
        y = MatMul(f, h) }"""
    sizes = {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 3, 3), "h": (8, 4)}
    ones = np.ones(8, np.float32)
    net = model(text, g=ones, o=0 * ones, m=0 * ones, v=9 * ones, **sizes)
    data = {"x": np.random.default_rng(3).standard_normal((48, 3, 6, 6)).astype(np.float32)}
    (plan,) = graphprune.compile(net, "depth(remove=1, criterion=reverse)", calibration=data).plans
    assert plan.bypassed == ("c",) and {"m", "v", "w3", "h"} == set(plan.replaced)


def same_when_staged(analysis: Analysis, plan: Plan, data: Mapping[str, Array]) -> Stage:
    """The stage is the dense model with its own weights, and the cut model with those of the twin."""
    gone = find_sublayers(analysis).named(plan.bypassed)
    stage = staged(analysis, Change(plan.cuts, gone))
    dense = open_session(analysis.model).run(data)["y"]
    assert np.allclose(open_session(stage.model).run(data)["y"], dense, rtol=1e-5, atol=1e-5)
    cut = open_session(rewrite(analysis.model, analysis, plan)).run(data)["y"]
    assert not np.allclose(cut, dense, atol=1e-2)
    twin = stage.model.clone()
    for name, array in stage.twin.items():
        twin.graph.initializers[name].const_value = ir.tensor(array, name=name)
    assert np.allclose(open_session(twin).run(data)["y"], cut, rtol=1e-5, atol=1e-5)
    return stage


def test_the_stage_computes_both_models_for_sublayers() -> None:
    stage = same_when_staged(analyse(stack()), Plan(bypassed=("c0", "c2")), UNSEEN)
    assert len(stage.gates) == 2


@pytest.mark.parametrize("stacked", [False, True])
def test_the_stage_computes_both_models_for_experts(stacked: bool) -> None:
    """A router's row of zeros would still be chosen; its gate is not."""
    analysis = analyse(mixture(stacked=stacked))
    group = find_mixtures(analysis).found[0].group
    stage = same_when_staged(analysis, Plan(cuts={group.id: (1, 3)}, widths={group.id: E}), X)
    assert len(stage.gates) == 1


def test_without_sublayers_and_experts_the_stage_is_the_model() -> None:
    analysis = analyse(stack())
    width = next(group for group in analysis.prunable if group.id.startswith("u1"))
    assert staged(analysis, Change({width.id: (0, 1)})).model is analysis.model


UNSEEN_X = {"x": np.random.default_rng(5).standard_normal((64, 6)).astype(np.float32)}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("criterion", ["easy-ep", "stun", "uncurl"])
def test_what_is_behind_the_experts_makes_up_for_them(criterion: str, stacked: bool) -> None:
    passes = f"experts(keep=2, criterion={criterion}, repair={{}})"
    bare, refit = (far(mixture(stacked=stacked), passes.format(w), X, UNSEEN_X) for w in ("none", "refit"))
    assert refit < 0.95 * bare


def test_merged_experts_keep_what_the_merge_made_of_them() -> None:
    net, _ = twins()
    bare, refit = (
        graphprune.compile(net, f"experts(keep=3, criterion=uncurl, repair={how})", calibration=X).plans[0]
        for how in ("none", "refit")
    )
    assert bare.replaced and bare.cuts == refit.cuts
    assert all(np.array_equal(refit.replaced[name], array) for name, array in bare.replaced.items())
    assert "head" in refit.replaced and "head" not in bare.replaced


def test_experts_that_see_only_their_own_tokens_are_left_alone() -> None:
    """What comes before them is repaired, and so other tokens may choose them than in the dense model."""
    body, more = comparisons()
    before = "p = MatMul(s, s0)\n q = Relu(p)\n x = MatMul(q, s1)\n"
    text = f"(float[n,6] s) => (float[n,3] y) {{ {before} {LOGITS} {body} {OUT}"
    analysis = built(text, s0=(6, 20), s1=(20, 6), wy=(6, 3), **WEIGHTS, **more)
    hidden = next(group for group in analysis.prunable if group.id.startswith("s0"))
    data = [{"s": np.random.default_rng(6).standard_normal((96, 6)).astype(np.float32)}]
    made = repair(analysis, Change({hidden.id: tuple(range(10))}), batches=data)
    assert {"s1", "wr", "wy"} <= set(made.replaced) and not set(made.replaced) & set(WEIGHTS)
    assert sum("tokens of one expert" in note for note in made.notes) == 8


@pytest.mark.parametrize("name", FORMS)
def test_in_every_form_what_is_behind_the_experts_is_repaired(name: str) -> None:
    body, more = FORMS[name][0]()
    weights: dict[str, object] = {**(WEIGHTS if name in UNROLLED else {}), **more}
    net, passes = graph(body, **weights).model, "experts(keep=2, criterion=reap, repair={})"
    (plan,) = graphprune.compile(net, passes.format("refit"), calibration=X).plans
    assert set(plan.replaced) == {"wy"}
    bare, refit = (far(net, passes.format(how), X, UNSEEN_X) for how in ("none", "refit"))
    assert refit < 0.9 * bare


def test_a_search_by_allowances_repairs_its_cut() -> None:
    ways = (", repair=none", ", repair=bias", ", repair=refit", "")
    passes = "pagcp(align=1, delta0=0.1, tau=1.5{})"
    found = [graphprune.compile(stack(), passes.format(way), calibration=SEEN) for way in ways]
    assert len({str(result.plans[0].cuts) for result in found}) == 1
    none, bias, refit, default = (distance(stack(), result.model, UNSEEN) for result in found)
    assert bias < none and refit < 0.7 * bias and default == refit


def test_biases_that_repair_adds_count_in_the_budget() -> None:
    for how in ("none", "refit"):
        report = graphprune.compile(
            TWO, f"pagcp(align=1, params=0.9, tau=3, repair={how})", calibration=TASKS
        ).report
        assert report.after.params <= 0.9 * report.before.params


def test_one_shot_statistics_do_not_reach_behind_a_sublayer() -> None:
    analysis = analyse(stack())
    gone = find_sublayers(analysis).named(["c1"])
    with pytest.raises(ArgumentError, match="behind a sublayer") as caught:
        repair(analysis, Change({}, tuple(gone)), Way(driver="oneshot"), batches=[SEEN])
    assert "driver=sequential" in caught.value.hint
