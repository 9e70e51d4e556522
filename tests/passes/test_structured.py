"""The structured methods end to end: what they touch, what they repair, what they refuse."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes.kinds import kinds
from graphprune.errors import ArgumentError, PromiseError
from graphprune.pipeline.result import Result
from graphprune.prune.allocate import block_shares
from graphprune.runtime.session import open_session
from tests.axes.claims import sketch
from tests.axes.test_kinds import decoder
from tests.prune.widths import convs, params

MLP = """(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = Add(a, b1)\n c = Relu(b)
    d = MatMul(c, w2)\n y = Add(d, b2) }"""
DATA = ["obspa", "flap", "cfsp", "wanda-sp", "minitron"]


def mlp(constant: int | None = None) -> ir.Model:
    """A hidden layer of 20 neurons; one may always be 2."""
    draw = np.random.default_rng(0)
    w1, b1 = draw.standard_normal((6, 20)), draw.standard_normal(20)
    if constant is not None:
        w1[:, constant], b1[constant] = 0, 2
    given = {"w1": w1, "b1": b1, "w2": draw.standard_normal((20, 4)), "b2": draw.standard_normal(4)}
    return sketch(MLP, **{name: array.astype(np.float32) for name, array in given.items()}).model


def samples(rows: int = 256) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    mixed = draw.standard_normal((rows, 6)) @ draw.standard_normal((6, 6))
    return {"x": mixed.astype(np.float32)}


def tokens() -> dict[str, np.ndarray]:
    return {"t": np.random.default_rng(2).integers(0, 20, (8, 5))}


def error(dense: ir.Model, result: Result, feed: dict[str, np.ndarray]) -> float:
    """Mean squared difference of the first output."""
    one, two = (open_session(model) for model in (dense, result.model))
    return float(np.mean((one.run(feed)[one.outputs[0]] - two.run(feed)[two.outputs[0]]) ** 2))


@pytest.mark.parametrize("name", DATA)
def test_a_method_that_measures_needs_data(name: str) -> None:
    with pytest.raises(ArgumentError, match="needs calibration data") as caught:
        graphprune.compile(mlp(), name)
    assert "calibration=FILE" in caught.value.hint


def test_a_repair_needs_data() -> None:
    with pytest.raises(ArgumentError, match="needs calibration data"):
        graphprune.compile(mlp(), "prune(repair=refit)")


def test_flap_takes_a_constant_neuron_first_and_loses_nothing() -> None:
    model, feed = mlp(constant=7), samples()
    result = graphprune.compile(model, "flap(ratio=0.05)", calibration=feed)
    (kept,) = result.plans[0].cuts.values()
    assert set(range(20)) - set(kept) == {7}
    assert error(model, result, feed) < 1e-9


def test_flap_adds_to_the_bias_that_is_there() -> None:
    result = graphprune.compile(mlp(constant=7), "flap(ratio=0.05)", calibration=samples())
    draw = np.random.default_rng(0)
    _, _, w2, b2 = (draw.standard_normal(shape) for shape in ((6, 20), 20, (20, 4), 4))
    adds = [value for node in result.model.graph if node.op_type == "Add" for value in node.inputs]
    (bias,) = (v.const_value.numpy() for v in adds if v is not None and v.const_value and v.shape == (4,))
    np.testing.assert_allclose(bias, b2 + 2 * w2[7], rtol=1e-4)


def test_flap_cuts_a_layer_whose_fluctuation_is_in_one_neuron_too() -> None:
    draw = np.random.default_rng(0)
    shapes = {"w1": (6, 200), "w2": (200, 6), "w3": (6, 200), "w4": (200, 4)}
    given = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    given["w1"][:, 0] *= 100
    text = """(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = Relu(a)\n c = MatMul(b, w2)
        d = Tanh(c)\n e = MatMul(d, w3)\n f = Relu(e)\n y = MatMul(f, w4) }"""
    widths = {}
    for how in ("auto", "z"):
        made = graphprune.compile(
            sketch(text, **given).model,
            f'flap(ratio=0.3, normalise={how}, only=["w1:1", "w3:1"])',
            calibration=samples(),
        )
        cuts = made.plans[0].cuts
        widths[how] = [len(cuts.get(name, range(200))) for name in ("w1:1", "w3:1")]
    assert max(widths["auto"]) < 170
    assert widths["z"][0] == 200  # as published


def test_what_is_repaired_errs_less_and_refit_least() -> None:
    model, feed = mlp(), samples()
    errors = [
        error(model, graphprune.compile(model, f"obspa(ratio=0.4, repair={how})", calibration=feed), feed)
        for how in ("none", "bias", "refit")
    ]
    assert errors[0] > errors[1] > errors[2]


def test_prune_repairs_by_itself_where_there_is_data_and_says_so() -> None:
    model, feed = mlp(), samples()
    plain = graphprune.compile(model, "prune(ratio=0.4, repair=none)", calibration=feed)
    auto = graphprune.compile(model, "prune(ratio=0.4)", calibration=feed)
    assert any("repair=auto" in line for line in auto.report.passes[0].notes)
    assert not plain.report.warnings and not plain.plans[0].replaced
    assert error(model, auto, feed) < error(model, plain, feed)


def test_prune_without_data_leaves_the_weights() -> None:
    plan = graphprune.compile(mlp(), "prune(ratio=0.4)").plans[0]
    assert not plan.replaced and not plan.biases


@pytest.mark.parametrize(
    ("text", "touched"),
    [
        ("flap", {"heads", "neurons"}),
        ("wanda-sp", {"heads", "neurons"}),
        ("cfsp", {"neurons"}),
        ("minitron", {"heads", "neurons", "stream"}),
        ("prune(kinds=stream)", {"stream"}),
    ],
)
def test_methods_touch_their_kinds(text: str, touched: set[str]) -> None:
    analysis = decoder("split")
    found = kinds(analysis)
    head, _, tail = text.partition("(")
    arguments = f"({tail[:-1]}, ratio=0.5)" if tail else "(ratio=0.5)"
    plan = graphprune.compile(analysis.model, head + arguments, calibration=tokens()).plans[0]
    assert {found[name] for name in plan.cuts} == touched


def test_a_kind_that_is_not_there_is_named() -> None:
    with pytest.raises(PromiseError, match="no Group is of the kind heads") as caught:
        graphprune.compile(mlp(), "prune(kinds=heads)")
    assert "neurons" in caught.value.hint


@pytest.mark.parametrize("name", ["prune(criterion=obs)", "obspa", "flap", "wanda-sp(scope=global)", "cfsp"])
def test_budgets_are_met_and_not_overshot_by_more_than_a_unit(name: str) -> None:
    analysis = decoder("split")
    before = params(analysis.model)
    head, _, tail = name.partition("(")
    text = f"{head}(params=0.8, min-keep=0, {tail[:-1]})" if tail else f"{head}(params=0.8, min-keep=0)"
    after = params(graphprune.compile(analysis.model, text.replace(", )", ")"), calibration=tokens()).model)
    assert before * 0.8 - 70 <= after <= before * 0.8  # a head costs at most 4 * 6 * 2 + what is repaired


def test_a_ratio_of_flap_counts_a_weight_once_that_two_groups_shrink() -> None:
    body = """(float[n,6] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = Relu(a)\n c = MatMul(b, w2)
        d = Relu(c)\n y = MatMul(d, w3) }"""
    model = sketch(body, w1=(6, 20), w2=(20, 20), w3=(20, 4)).model
    made = graphprune.compile(model, "flap(ratio=0.5, repair=none, align=1)", calibration=samples())
    whole = 6 * 20 + 20 * 20 + 20 * 4
    assert whole / 2 <= params(made.model) < whole / 2 + 6 + 20 + 4


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_a_ratio_of_flap_is_filled_by_finer_steps(ratio: float) -> None:
    """Steps of 16 come in one order, in which the first that is too wide ends the cut at .122."""
    data = {"x": np.random.default_rng(3).standard_normal((16, 3, 8, 8)).astype(np.float32)}
    made = graphprune.compile(
        convs(32, 128), f"flap(ratio={ratio}, repair=none, kinds=all)", calibration=data
    )
    gone = 1 - params(made.model) / params(convs(32, 128))
    assert ratio - 0.03 <= gone <= ratio
    (budget,) = made.report.budgets
    assert budget.left == pytest.approx(1 - gone) and budget.met


def test_a_larger_ratio_removes_more_of_the_same() -> None:
    model, feed = mlp(), samples()
    mild, strong = (
        set(graphprune.compile(model, f"flap(ratio={r})", calibration=feed).plans[0].cuts["w1:1"])
        for r in (0.2, 0.5)
    )
    assert strong < mild


def test_rounds_keep_what_is_gone_gone_and_reach_the_budget() -> None:
    model, feed = mlp(), samples()
    one, three = (
        graphprune.compile(model, f"obspa(ratio=0.6, rounds={n})", calibration=feed) for n in (1, 3)
    )
    assert [len(r.plans[0].cuts["w1:1"]) for r in (one, three)] == [8, 8]
    assert error(model, three, feed) <= 1.1 * error(model, one, feed)


def test_data_free_needs_no_data_and_leaves_norms_alone() -> None:
    body = """(float[n,3,6,6] x) => (float[n,2,6,6] y) { a = Conv(x, w1)
        b = BatchNormalization(a, g, s, m, v)
        c = Relu(b)\n y = Conv(c, w2) }"""
    positive = np.linspace(0.5, 2, 16).astype(np.float32)
    analysis = sketch(body, w1=(16, 3, 1, 1), g=positive, s=(16,), m=(16,), v=positive, w2=(2, 16, 1, 1))
    plan = graphprune.compile(analysis.model, "obspa(calibration=free, ratio=0.5, align=1)").plans[0]
    assert len(plan.cuts["w1:0"]) == 8
    assert "w2" in plan.replaced and not {"m", "v", "g", "s"} & set(plan.replaced)


def test_matching_noise_is_refused() -> None:
    with pytest.raises(ArgumentError, match="needs samples"):
        graphprune.compile(mlp(), "obspa(calibration=free, repair=match)")


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8, 0.95])
def test_block_shares_average_to_the_budget_and_stay_below_one(keep: float) -> None:
    shares = block_shares(np.array([0.05, 0.1, 0.2, 0.12]), keep)
    assert shares.mean() == pytest.approx(keep) and shares.max() < 1
    assert (np.diff(shares[[0, 1, 3, 2]]) > 0).all()


def test_blocks_of_equal_angle_give_equally() -> None:
    np.testing.assert_allclose(block_shares(np.full(5, 0.2), 0.7), 0.7)


def test_bn_scale_of_a_folded_model_is_the_spread_of_its_results() -> None:
    scales = np.array([4.0, 0.5, 3.0, 0.25], np.float32).reshape(4, 1, 1, 1)
    body = "(float[n,1,8,8] x) => (float[n,2,8,8] y) { a = Conv(x, w)\n b = Relu(a)\n y = Conv(b, v) }"
    model = sketch(body, w=scales, v=np.ones((2, 4, 1, 1), np.float32)).model
    feed = {"x": np.random.default_rng(0).standard_normal((12, 1, 8, 8)).astype(np.float32)}
    text = "prune(criterion=bn-scale, ratio=0.5, align=1, repair=none)"
    result = graphprune.compile(model, text, calibration=feed)
    assert result.model.graph.initializers["w"].const_value.numpy().ravel().tolist() == [4.0, 3.0]  # type: ignore[union-attr]
    scores = np.array(result.plans[0].scores["w:0"])
    np.testing.assert_allclose(scores, scales.ravel() * feed["x"].std(), rtol=1e-4)


def test_scores_per_cost_favour_what_is_expensive() -> None:
    body = """(float[n,6] x) => (float[n,4] y) { a = MatMul(x, u)\n b = MatMul(a, v)\n y = MatMul(b, w) }"""
    v = np.repeat([0.5, 1], [8, 32]) * np.ones((8, 1))
    model = sketch(body, u=np.ones((6, 8), np.float32), v=v.astype(np.float32), w=(40, 4)).model
    plain, dear = (
        graphprune.compile(model, f"prune(ratio=0.1, criterion=l1, per={per})").plans[0]
        for per in ("unit", "params")
    )
    assert {name: len(kept) for name, kept in plain.cuts.items()} == {"v:1": 36}
    assert {name: len(kept) for name, kept in dear.cuts.items()} == {"u:1": 4}  # 46 parameters each, not 12
