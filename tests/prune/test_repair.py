"""Repair brings a cut model closer to the dense one, in any graph, and what it changes is proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis, Options, analyse
from graphprune.errors import ArgumentError
from graphprune.proof import prove
from graphprune.proof.biases import undeclared
from graphprune.prune.bias import with_biases
from graphprune.prune.plan import Plan
from graphprune.prune.repair import Change, Driver, Repaired, Way, repair, wanted_grams
from graphprune.prune.repair.norms import refreshed
from graphprune.prune.rewrite import rewrite
from graphprune.prune.zeroed import zeroed
from graphprune.run import Run
from graphprune.runtime.session import open_session
from graphprune.statistics.collect import collect
from graphprune.statistics.measures import Vector
from tests.axes.claims import sketch
from tests.properties.nets import CHAINS, net
from tools.fuzz.check import random_plan
from tools.relations import analysed

Array = np.ndarray
Feed = dict[str, Array]

MLP = """(float[n,8] x) => (float[n,5] y) { a = Gemm(x, w1, b1)\n b = Relu(a)\n c = Gemm(b, w2, b2)
    d = Relu(c)\n e = Gemm(d, w3, b3)\n f = Tanh(e)\n y = Gemm(f, w4, b4) }"""
CNN = """(float[n,3,8,8] x) => (float[n,4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)\n b = BatchNormalization(a, g, s, m, v)\n c = Relu(b)
    d = Conv <group = 12, pads = [1, 1, 1, 1]> (c, w2, b2)\n e = Relu(d)
    f = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (e, w3)\n h = Add(f, p)\n i = Relu(h)
    j = GlobalAveragePool(i)\n k = Flatten(j)\n y = MatMul(k, w4) }"""


def mlp() -> Analysis:
    sizes = ((8, 24), (24, 24), (24, 16), (16, 5))
    rng = np.random.default_rng(0)
    weights: dict[str, object] = {}
    for number, shape in enumerate(sizes, 1):
        weights[f"w{number}"] = (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights[f"b{number}"] = rng.standard_normal(shape[1]).astype(np.float32)
    return sketch(MLP, **weights)


def cnn() -> Analysis:
    return sketch(
        CNN,
        w1=(12, 3, 3, 3),
        g=np.linspace(0.5, 2, 12, dtype=np.float32),
        s=(12,),
        m=(12,),
        v=np.linspace(9, 27, 12, dtype=np.float32),
        w2=(12, 1, 3, 3),
        b2=(12,),
        w3=(16, 12, 3, 3),
        p=(16, 1, 1),
        w4=(16, 4),
    )


def batches(analysis: Analysis, count: int = 4, size: int = 64) -> list[Feed]:
    """Inputs that lie near a plane of few directions, as data does."""
    shape = [d for d in analysis.model.graph.inputs[0].shape or () if isinstance(d, int)]
    rng = np.random.default_rng(1)
    basis = rng.standard_normal((6, int(np.prod(shape))))
    draws = rng.standard_normal((count, size, 6)) @ basis
    noise = 0.1 * rng.standard_normal(draws.shape)
    return [
        {"x": (d + e).reshape(size, *shape).astype(np.float32)} for d, e in zip(draws, noise, strict=True)
    ]


def half(analysis: Analysis, share: float = 0.5) -> dict[str, tuple[int, ...]]:
    return {g.id: tuple(range(max(1, round(g.size * share)))) for g in analysis.prunable}


def twin(analysis: Analysis, cuts: Mapping[str, tuple[int, ...]], made: Repaired) -> ir.Model:
    """The dense model with what is gone set to zero, repaired."""
    model = analysis.model.clone()
    for name, array in zeroed(analysis, cuts, made.replaced).items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return with_biases(model, made.biases)


def distance(one: ir.Model, two: ir.Model, data: list[Feed]) -> float:
    """Mean squared difference of the first outputs, relative to the variance of the first model's."""
    sessions = [open_session(model) for model in (one, two)]
    first, second = (
        np.concatenate([next(iter(s.run(feed).values())) for feed in data]).astype(np.float64)
        for s in sessions
    )
    return float(((first - second) ** 2).mean() / first.var())


def errors(analysis: Analysis, *ways: tuple[str, Driver], share: float = 0.5) -> list[float]:
    """Distance to the dense model on data that was not seen, per way of repair."""
    data, cuts = batches(analysis, 8), half(analysis, share)
    seen, unseen = data[:6], data[6:]
    grams = collect(analysis.model, seen, wanted_grams(analysis))
    found = []
    for how, driver in ways:
        made = repair(analysis, Change(cuts), Way(how, driver), batches=seen, statistics=grams)
        found.append(distance(analysis.model, twin(analysis, cuts, made), unseen))
    return found


@pytest.mark.parametrize("make", [mlp, cnn])
def test_every_repair_helps_and_the_sequential_refit_most(make: object) -> None:
    none, bias, one, best = errors(
        make(),  # type: ignore[operator]
        ("none", "sequential"),
        ("bias", "sequential"),
        ("refit", "oneshot"),
        ("refit", "sequential"),
    )
    assert best < one < none and best < bias < none
    assert best < 0.5 * none


def test_matching_restores_the_spread_of_every_result() -> None:
    analysis, data = mlp(), batches(mlp())
    cuts = half(analysis)
    made = repair(analysis, Change(cuts), Way("match"), batches=data)
    model = twin(analysis, cuts, made)
    spreads = []
    for each in (analysis.model, model):
        session = open_session(each, extra_outputs=["c"])
        kept = list(cuts["w2:1"])
        found = np.concatenate([session.run(feed)["c"] for feed in data])[:, kept]
        spreads.append((found.mean(axis=0), found.std(axis=0)))
    np.testing.assert_allclose(spreads[1][0], spreads[0][0], atol=1e-4)
    ratio = spreads[1][1] / spreads[0][1]
    assert np.isclose(ratio, 1, atol=1e-3).sum() >= len(ratio) * 0.8  # the others were out of bounds


def test_a_copy_of_a_unit_can_go_for_free() -> None:
    """Columns that duplicate kept ones are what least squares can make up for completely."""
    analysis = mlp()
    model = analysis.model.clone()
    for name, axis in (("w1", 1), ("b1", 0)):
        value = model.graph.initializers[name]
        assert value.const_value is not None
        array = np.array(value.const_value.numpy())
        first = np.take(array, range(12), axis)
        value.const_value = ir.tensor(np.concatenate([first, first], axis), name=name)
    twice = analyse(model)
    cuts = {g.id: tuple(range(12)) for g in twice.prunable if g.id == "w1:1"}
    data = batches(twice)
    before = distance(model, twin(twice, cuts, Repaired({}, {})), data)
    after = distance(model, twin(twice, cuts, repair(twice, Change(cuts), batches=data)), data)
    assert before > 0.05 and after < 1e-3 * before


def test_without_a_cut_there_is_nothing_to_repair() -> None:
    analysis = cnn()
    whole = {g.id: tuple(range(g.size)) for g in analysis.prunable}
    assert repair(analysis, Change(whole), batches=batches(analysis)) == Repaired({}, {}, ())


def test_removed_slots_of_what_is_replaced_are_zero() -> None:
    analysis = cnn()
    cuts = half(analysis)
    made = repair(analysis, Change(cuts), batches=batches(analysis))
    again = zeroed(analysis, cuts, made.replaced)
    for name, array in made.replaced.items():
        if name not in ("m", "v"):  # what a norm subtracts from a removed channel is scaled by zero
            np.testing.assert_array_equal(again[name], array)
    assert not made.biases["a"][6:].any() if "a" in made.biases else True
    assert made.biases["f"][8:].tolist() == [0.0] * 8


def test_the_same_inputs_give_the_same_bits() -> None:
    analysis = cnn()
    one, two = (
        repair(analysis, Change(half(analysis)), batches=batches(analysis), run=Run(3)) for _ in range(2)
    )
    for first, second in ((one.replaced, two.replaced), (one.biases, two.biases)):
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
@pytest.mark.parametrize("how", ["bias", "refit", "refit+match"])
def test_a_repaired_cut_proves_itself(chain: tuple[str, ...], how: str) -> None:
    graph = net(chain, 2)
    analysis = analysed(graph.model, Options(layernorm="expand"))
    plan = random_plan(analysis, np.random.default_rng(5))
    rng = np.random.default_rng(0)
    data = [
        {
            n: a if a.dtype.kind != "f" else rng.standard_normal(a.shape).astype(a.dtype)
            for n, a in graph.feeds.items()
        }
        for _ in range(6)
    ]
    made = repair(analysis, Change(plan.cuts), Way(how), batches=data)
    plan = replace(plan, replaced=made.replaced, biases=made.biases)
    biased = with_biases(analysis.model, made.biases)
    assert undeclared(analysis.model, biased, made.biases) == ()
    again = analyse(biased, analysis.options)
    assert {g.id: g.size for g in again.prunable} == {g.id: g.size for g in analysis.prunable}
    proof = prove(biased, again, plan, rewrite(biased, again, plan), [graph.feeds])
    assert proof.ok, proof.details


def test_half_precision_stays_half_precision() -> None:
    halves = np.float16
    analysis = sketch(
        "(float16[n,8] x) => (float16[n,5] y) { a = Gemm(x, w1, b1)\n b = Relu(a)\n y = Gemm(b, w2) }",
        w1=np.random.default_rng(0).standard_normal((8, 24)).astype(halves),
        b1=np.zeros(24, halves),
        w2=np.random.default_rng(1).standard_normal((24, 5)).astype(halves),
    )
    data = [{"x": feed["x"].astype(halves)} for feed in batches(analysis)]
    made = repair(analysis, Change(half(analysis)), batches=data)
    assert made.replaced["w2"].dtype == made.biases["y"].dtype == halves


def test_a_repair_that_overflows_is_left_out_with_a_note() -> None:
    """y = 60000 u - 60000 u' with u' a copy of u: without u' the weight that is right does not fit."""
    halves = np.float16
    w1 = np.random.default_rng(0).standard_normal((8, 2)).astype(halves)
    analysis = sketch(
        "(float16[n,8] x) => (float16[n,1] y) { a = MatMul(x, w1)\n b = Relu(a)\n y = MatMul(b, w2) }",
        w1=np.concatenate([w1, w1, w1], axis=1),
        w2=np.full((6, 1), 30000, halves),
    )
    cuts = {analysis.prunable[0].id: (0, 1)}
    data = [{"x": (1e-4 * feed["x"]).astype(halves)} for feed in batches(analysis)]
    made = repair(analysis, Change(cuts), batches=data)
    assert "w2" not in made.replaced
    assert any("w2" in note and "too large" in note for note in made.notes)


def test_a_bias_that_overflows_in_one_channel_is_left_out_with_a_note() -> None:
    """y0 = 60000 in the dense model and -60000 in the cut one; what y1 lacks would fit."""
    halves = np.float16
    analysis = sketch(
        """(float16[n,2] x) => (float16[n,2] y) { a = MatMul(x, u)\n b = Relu(a)\n c = MatMul(b, w)
        y = Add(c, k) }""",
        u=np.array([[1, 1, 1, 0], [0, 0, 0, 1]], halves),
        w=np.array([[-300, 1], [300, 1], [300, 1], [0, 1]], halves),
        k=np.zeros(2, halves),
    )
    x = np.stack([np.linspace(190, 200, 8), np.linspace(0, 1, 8)], axis=1).astype(halves)
    made = repair(analysis, Change({analysis.prunable[0].id: (0, 3)}), Way("bias"), batches=[{"x": x}])
    assert not made.biases and not made.replaced
    assert any("w" in note and "too large" in note for note in made.notes)


def test_layers_that_repair_cannot_reach_are_named() -> None:
    analysis = sketch(
        """(float[n,6] x) => (float[n,5] y) {
            h = MatMul(x, w1)\n [joint] y = Einsum <equation = "nk,km->nm"> (h, w2) }""",
        w1=(6, 16),
        w2=(16, 5),
    )
    wide = next(group.id for group in analysis.groups if group.size == 16)
    made = repair(analysis, Change({wide: tuple(range(8))}), batches=batches(analysis))
    assert not made.replaced
    assert any("joint (Einsum)" in note for note in made.notes)


RECURRENT = """(float[n,4,8] x) => (float[n,{d},4,6] y) {{
    f = MatMul(x, w1)\n h = Relu(f)\n y = {op} <hidden_size = 6, {more}> (h, w2, r, b) }}"""


def recurrent(op: str, gates: int, directions: int, more: str) -> Analysis:
    """Twelve hidden channels, of which each has a twin up to a constant, in front of a recurrent node."""
    w1 = np.random.default_rng(3).standard_normal((8, 12)).astype(np.float32)
    ways = "bidirectional" if directions == 2 else "forward"
    text = RECURRENT.format(op=op, d=directions, more=f'direction = "{ways}"{more}')
    return sketch(
        text,
        w1=np.concatenate([w1, 0.5 * w1], axis=1),
        w2=(directions, gates * 6, 24),
        r=(directions, gates * 6, 6),
        b=(directions, 2 * gates * 6),
    )


CELLS = [
    ("LSTM", 4, 1, ""),
    ("LSTM", 4, 2, ""),
    ("GRU", 3, 1, ", linear_before_reset = 0"),
    ("GRU", 3, 2, ", linear_before_reset = 1"),
    ("RNN", 1, 2, ""),
]


@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0]}-{cell[2]}")
def test_inputs_of_recurrent_cells_are_refitted(cell: tuple[str, int, int, str], driver: Driver) -> None:
    analysis, data = recurrent(*cell), batches(recurrent(*cell))
    wide = next(group.id for group in analysis.groups if group.size == 24)
    cuts = {wide: tuple(range(12))}  # each of those that go is half of one that stays
    grams = collect(analysis.model, data, wanted_grams(analysis))
    made = repair(analysis, Change(cuts), Way(driver=driver), batches=data, statistics=grams)
    assert not made.notes and not made.biases
    none = distance(analysis.model, twin(analysis, cuts, Repaired({}, {})), data)
    assert distance(analysis.model, twin(analysis, cuts, made), data) < 0.01 * none  # the ridge is the rest
    before = np.asarray(analysis.model.graph.initializers["b"].const_value.numpy())
    half = before.shape[1] // 2
    assert np.array_equal(made.replaced["b"][:, half:], before[:, half:])  # of the state: untouched


def test_the_mean_of_what_a_recurrent_cell_loses_goes_into_its_bias() -> None:
    """A channel that is nearly constant has no twin; the bias of W takes its part."""
    analysis = recurrent("LSTM", 4, 1, "")
    weight = analysis.model.graph.initializers["w1"].const_value.numpy().copy()
    weight[:, 23] = 0
    weight[0, 23] = 1
    analysis.model.graph.initializers["w1"].const_value = ir.tensor(weight, name="w1")
    data = [{"x": feed["x"].copy()} for feed in batches(analysis)]
    for feed in data:
        feed["x"][..., 0] = 30 + 1e-3 * feed["x"][..., 0]
    wide = next(group.id for group in analysis.groups if group.size == 24)
    cuts = {wide: tuple(range(23))}
    grams = collect(analysis.model, data, wanted_grams(analysis))
    made = repair(analysis, Change(cuts), Way("bias", "oneshot"), batches=data, statistics=grams)
    assert set(made.replaced) == {"b"}
    assert distance(analysis.model, twin(analysis, cuts, made), data) < 1e-4
    alone = repair(analysis, Change(cuts), Way("bias"), batches=data)
    assert not alone.replaced and any("needs refit or match" in note for note in alone.notes)


def test_a_recurrent_cell_that_loses_inputs_and_state_is_repaired_and_proved() -> None:
    body = """(float[5,n,8] x) => (float[5,n,3] y) { f = MatMul(x, w1)\n h = Relu(f)
        l = LSTM <hidden_size = 10> (h, w2, r, b)\n s = Squeeze(l, one)\n y = MatMul(s, w3) }"""
    analysis = sketch(
        body, w1=(8, 20), w2=(1, 40, 20), r=(1, 40, 10), b=(1, 80), w3=(10, 3), one=np.array([1])
    )
    feed = {"x": np.random.default_rng(5).standard_normal((5, 64, 8)).astype(np.float32)}
    cuts = half(analysis)
    assert {len(kept) for kept in cuts.values()} == {10, 5}
    made = repair(analysis, Change(cuts), batches=[feed])
    assert {"w2", "b", "w3"} <= set(made.replaced)
    assert any("(LSTM)" in note for note in made.notes)  # what it does with its own state stays as it is
    assert not made.replaced["b"][0].reshape(8, 10)[:4, 5:].any()  # gates of what is gone stay zero
    widths = {group.id: group.size for group in analysis.prunable}
    plan = Plan(analysis.options, cuts, widths, replaced=made.replaced)
    proof = prove(analysis.model, analysis, plan, rewrite(analysis.model, analysis, plan), [feed])
    assert proof.ok, proof.details
    none, ours = (
        distance(analysis.model, twin(analysis, cuts, each), [feed]) for each in (Repaired({}, {}), made)
    )
    assert ours < 0.7 * none


def test_what_a_repair_leaves_of_a_dead_channel_is_zero_not_denormal() -> None:
    """Products with denormals made a repaired model twice as slow as the dense one."""
    analysis = mlp()
    weights = analysis.model.graph.initializers
    decayed = np.where(np.arange(24) < 4, 1e-36, 1).astype(np.float32)  # what weight decay leaves
    for name, scale in (("w1", decayed), ("b1", decayed), ("w2", decayed[:, None])):
        weights[name].const_value = ir.Tensor(weights[name].const_value.numpy() * scale, name=name)
    cuts = {group.id: tuple(range(group.size // 2)) for group in analysis.prunable}
    made = repair(analysis, Change(cuts), batches=batches(analysis))
    assert "w2" in made.replaced
    for array in (*made.replaced.values(), *made.biases.values()):
        size = np.abs(array[array != 0])
        assert size.min() >= 1e-30


@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
def test_a_bias_leaves_weights_out_of_the_plan(driver: Driver) -> None:
    analysis = mlp()
    seen = batches(analysis)
    grams = collect(analysis.model, seen, wanted_grams(analysis))
    made = repair(analysis, Change(half(analysis)), Way("bias", driver), batches=seen, statistics=grams)
    assert made.biases and not made.replaced


@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
def test_norms_behind_a_repaired_layer_get_the_statistics_of_what_it_gives_now(driver: Driver) -> None:
    analysis = sketch(
        """(float[n,3,6,6] x) => (float[n,4,6,6] y) { a = Conv(x, w1)\n b = Relu(a)\n c = Conv(b, w2)
        d = BatchNormalization(c, g, s, m, v)\n e = Relu(d)\n y = Conv(e, w3) }""",
        w1=(12, 3, 1, 1), w2=(8, 12, 1, 1), g=(8,), s=(8,), m=(8,), v=np.linspace(1, 2, 8).astype("f"),
        w3=(4, 8, 1, 1),
    )  # fmt: skip
    seen, change = batches(analysis), Change({"w1:0": tuple(range(6))})
    grams = collect(analysis.model, seen, wanted_grams(analysis))
    for how in ("refit", "bias"):
        made = repair(analysis, change, Way(how, driver), batches=seen, statistics=grams)
        assert {"m", "v"} <= set(made.replaced)
        still = repair(analysis, change, Way(how, driver, refresh=False), batches=seen, statistics=grams)
        assert not {"m", "v"} & set(still.replaced)


def test_a_weight_with_other_readers_keeps_its_values_and_says_so() -> None:
    analysis = sketch(
        """(float[n,8] x) => (float[n,4] y, float[n,4] z) { a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, v)
        c = MatMul(b, u)\n d = Tanh(c)\n z = MatMul(d, v) }""",
        Options(share="split"),
        w=(8, 12),
        v=(12, 4),
        u=(12, 12),
    )
    cuts = {
        g.id: tuple(range(g.size // 2)) for g in analysis.prunable if "w" in {s.initializer for s in g.slices}
    }
    made = repair(analysis, Change(cuts), batches=batches(analysis))
    assert "v" not in made.replaced and "u" in made.replaced
    assert any("v@" in note and "other readers" in note for note in made.notes)
    assert "y" in made.biases
    grams = collect(analysis.model, batches(analysis), wanted_grams(analysis))
    once = repair(analysis, Change(cuts), Way(driver="oneshot"), statistics=grams)
    assert "v" not in once.replaced and "u" in once.replaced
    assert any("v@" in note and "other readers" in note for note in once.notes)


@pytest.mark.parametrize("driver", ["sequential", "oneshot"])
def test_a_product_that_adds_what_is_computed_keeps_its_values_and_says_so(driver: str) -> None:
    """What is wanted of it is not its weight times its input alone; as a vector it is repaired."""
    for third, why in (("c", True), ("k", False)):
        analysis = sketch(
            f"""(float[n,8] x) => (float[n,4] y, float[n,4] c) {{ a = MatMul(x, w)\n b = Relu(a)
            c = MatMul(x, u)\n y = Gemm(b, v, {third}) }}""",
            w=(8, 12),
            v=(12, 4),
            u=(8, 4),
            **({"k": (4,)} if third == "k" else {}),
        )
        cuts = {g.id: tuple(range(6)) for g in analysis.prunable if g.size == 12}
        seen = batches(analysis)
        grams = collect(analysis.model, seen, wanted_grams(analysis)) if driver == "oneshot" else None
        data = {"statistics": grams} if driver == "oneshot" else {"batches": seen}
        made = repair(analysis, Change(cuts), Way(driver=driver), **data)
        assert ("v" not in made.replaced) == why
        assert any("no constant vector" in note for note in made.notes) == why


def test_a_product_that_loses_nothing_gets_no_new_add() -> None:
    analysis = sketch(
        """(float[n,8] x) => (float[n,4] y) { a = MatMul(x, w)\n b = Relu(a)\n c = MatMul(b, v)\n d = Tanh(c)
        y = MatMul(d, u) }""",
        w=(8, 12),
        v=(12, 10),
        u=(10, 4),
    )
    cuts = {g.id: tuple(range(6)) for g in analysis.prunable if g.size == 12}
    made = repair(analysis, Change(cuts), batches=batches(analysis))
    assert set(made.biases) == {"c"} and set(made.replaced) == {"v", "u"}


def test_norms_follow_the_change_and_stay_where_there_is_none() -> None:
    node = next(n for n in cnn().model.graph if n.op_type == "BatchNormalization")
    stored = [np.asarray(node.inputs[p].const_value.numpy()) for p in (3, 4)]  # type: ignore[union-attr]
    same = refreshed([node], wide(0.5, 2.0), wide(0.5, 2.0))
    np.testing.assert_allclose(same["m"], stored[0], rtol=1e-6)
    np.testing.assert_allclose(same["v"], stored[1], rtol=1e-6)
    moved = refreshed([node], wide(0.5, 2.0), wide(1.5, 2.0))
    np.testing.assert_allclose(moved["m"], stored[0] + 1, rtol=1e-5)
    wider = refreshed([node], wide(0.0, 2.0), wide(0.0, 4.0))
    np.testing.assert_allclose(wider["v"], 2 * stored[1], rtol=1e-4)
    np.testing.assert_allclose(wider["m"], stored[0] * np.sqrt(2), rtol=1e-5)


def test_a_channel_that_never_varied_keeps_its_variance_and_the_others_follow() -> None:
    """Nothing says by what factor it changed; its mean moves with what is measured."""
    node = next(n for n in cnn().model.graph if n.op_type == "BatchNormalization")
    mean, variance = (np.asarray(node.inputs[p].const_value.numpy()) for p in (3, 4))  # type: ignore[union-attr]
    still = np.arange(12) < 3
    for after in (0.0, 4.0):
        new = refreshed([node], wide(0.5, np.where(still, 0.0, 2.0)), wide(1.5, np.where(still, after, 4.0)))
        np.testing.assert_allclose(new["v"], np.where(still, 1, 2) * variance, rtol=1e-4)
        np.testing.assert_allclose(new["m"][still], mean[still] + 1, rtol=1e-5)


@pytest.mark.parametrize(("factor", "bounded"), [(5.0, 4.0), (4.0, 4.0), (0.2, 0.25), (0.25, 0.25)])
def test_a_variance_is_not_refreshed_by_more_than_a_factor_of_four(factor: float, bounded: float) -> None:
    node = next(n for n in cnn().model.graph if n.op_type == "BatchNormalization")
    variance = np.asarray(node.inputs[4].const_value.numpy())  # type: ignore[union-attr]
    new = refreshed([node], wide(0.0, 2.0), wide(0.0, 2.0 * factor))
    np.testing.assert_allclose(new["v"], bounded * variance, rtol=1e-3)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_a_refreshed_norm_gives_what_the_dense_one_gave(epsilon: float) -> None:
    """Mean and spread behind it, with an epsilon that is small beside the variance or is not."""
    node = next(n for n in cnn().model.graph if n.op_type == "BatchNormalization")
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon)
    mean, variance = (np.asarray(node.inputs[p].const_value.numpy(), float) for p in (3, 4))  # type: ignore[union-attr]
    dense, pruned = (0.5, 2.0), (1.5, 3.0)
    new = refreshed([node], wide(*dense), wide(*pruned))
    before = [(dense[0] - mean) / np.sqrt(variance + epsilon), dense[1] / (variance + epsilon)]
    after = [(pruned[0] - new["m"]) / np.sqrt(new["v"] + epsilon), pruned[1] / (new["v"] + epsilon)]
    np.testing.assert_allclose(after, before, rtol=1e-5)


def wide(mean: float, variance: float | np.ndarray) -> Vector:
    one = np.ones(12)
    return Vector(1.0, mean * one, (variance + mean**2) * one, one, one, one)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (Way("glue"), "there is no repair 'glue'"),
        (Way("refit"), "needs calibration data"),
        (Way("refit", "oneshot"), "needs statistics"),
    ],
)
def test_what_cannot_be_done_is_refused(way: Way, words: str) -> None:
    analysis = mlp()
    with pytest.raises(ArgumentError, match=words):
        repair(analysis, Change(half(analysis)), way)


def test_a_repaired_plan_is_stored_and_repeats(tmp_path: Path) -> None:
    analysis = cnn()
    data = {"x": np.concatenate([feed["x"] for feed in batches(analysis)])}
    passes = "prune(ratio=0.5, align=1, repair=refit)"
    one = graphprune.compile(analysis.model, passes, tmp_path / "one.onnx", calibration=data)
    two = graphprune.compile(analysis.model, plan=tmp_path / "one.plan.json")
    assert one.plans[0].biases and one.plans[0].replaced
    first, second = one.model.graph.initializers, two.model.graph.initializers
    assert first.keys() == second.keys()
    for name, value in first.items():
        other = second[name].const_value
        assert value.const_value is not None and other is not None
        assert value.const_value.tobytes() == other.tobytes()


def test_a_plan_with_biases_survives_json() -> None:
    plan = Plan(biases={"y": np.arange(3.0)}, replaced={"w": np.ones(2)})
    again = Plan.from_json(plan.to_json(), plan.tensors)
    assert not plan.empty and not again.empty
    np.testing.assert_array_equal(again.biases["y"], plan.biases["y"])
