"""Which sublayers go: FinerCut's search against its oracles."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import analyse
from graphprune.axes.sublayers import find_sublayers
from graphprune.errors import ArgumentError, PromiseError
from graphprune.prune import divergence
from graphprune.prune.choose import Budget
from graphprune.prune.depth import DepthCost, Removal, taken
from graphprune.prune.divergence import Judge, jsd, kl, targets
from graphprune.prune.gates import Candidates, gated
from graphprune.runtime.gaps import distribution
from graphprune.runtime.session import open_session
from tests.proof.building import model

C, F, LAYERS = 6, 8, 6
DATA = {"x": np.random.default_rng(0).standard_normal((40, 5, C)).astype(np.float32)}


def stack(zero: int | None = None, scales: tuple[float, ...] = (0.3,) * LAYERS) -> ir.Model:
    """Feed-forward sublayers of some influence on one stream; one of them may compute zero."""
    draw = np.random.default_rng(1)
    body, weights, stream = "", {}, "x"
    for number, scale in enumerate(scales):
        body += f"""h{number} = MatMul({stream}, u{number})\n g{number} = Relu(h{number})
            b{number} = MatMul(g{number}, d{number})\n r{number} = Add({stream}, b{number})\n"""
        stream = f"r{number}"
        weights[f"u{number}"] = draw.standard_normal((C, F)).astype(np.float32)
        down = draw.standard_normal((F, C)) * (0 if number == zero else scale)
        weights[f"d{number}"] = down.astype(np.float32)
    weights["head"] = draw.standard_normal((C, 7)).astype(np.float32)
    return model(f"(float[n,5,{C}] x) => (float[n,5,7] y) {{ {body} y = MatMul({stream}, head) }}", **weights)


def gone(net: ir.Model, passes: str) -> tuple[str, ...]:
    (plan,) = graphprune.compile(net, passes, calibration=DATA).plans
    return plan.bypassed


def test_the_divergence_has_the_value_of_the_oracle() -> None:
    p, q = np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.7]])
    assert jsd(p, q)[0] == pytest.approx(0.2531, abs=5e-5)
    assert jsd(q, p)[0] == jsd(p, q)[0] and jsd(p, p)[0] == 0
    assert jsd(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == pytest.approx(log(2))
    middle = (p + q) / 2
    reversed_form = (kl(middle, p) + kl(middle, q)) / 2
    assert reversed_form[0] == pytest.approx(0.3307, abs=5e-5)


def test_outputs_are_compared_as_what_they_are() -> None:
    outputs = "(float[n,3] y, float[n,3] p, float[n,4] z)"
    text = f"(float[n,4] x) => {outputs} {{ y = MatMul(x, w)\n p = Softmax(y)\n z = Tanh(x) }}"
    kinds = {target.name: target.scale for target in targets(model(text, w=(4, 3)))}
    assert kinds == {"y": "logits", "p": "probabilities", "z": "numbers"}
    assert distribution(np.array([[0.0, log(3)]]), "logits") == pytest.approx(np.array([[0.25, 0.75]]))


def test_large_outputs_are_judged_in_parts_and_on_as_many_samples_as_can_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = model("(float[n,t,4] x) => (float[n,t,3] y) { y = MatMul(x, w) }", w=(4, 3))
    feeds = {"x": np.random.default_rng(0).standard_normal((32, 5, 4)).astype(np.float32)}
    dense, notes = open_session(net).run, list[str]()
    other = lambda given: {"y": dense(given)["y"] ** 2}  # noqa: E731
    whole = Judge(net, [feeds], dense, note=notes.append).loss(other)
    monkeypatch.setattr(divergence, "OUTPUT_BYTES", 7 * 5 * 3 * 4)
    seen: list[int] = []
    parts = Judge(net, [feeds], dense, note=notes.append)
    assert parts.loss(lambda given: (seen.append(len(given["x"])), other(given))[1]) == pytest.approx(whole)
    assert seen == [7, 7, 7, 7, 4] and not notes
    monkeypatch.setattr(divergence, "JUDGED_BYTES", 1)
    seen.clear()
    few = Judge(net, [feeds, feeds], dense, note=notes.append)
    assert few.loss(lambda given: (seen.append(len(given["x"])), other(given))[1]) != pytest.approx(whole)
    assert seen == [7, 7] and notes == ["judged on 14 of 64 samples: their outputs fill 0.0 GB"]


def test_padding_is_not_judged() -> None:
    """Only the last token differs, and it is padding."""
    text = "(float[n,t,4] x, int64[n,t] mask) => (float[n,t,3] y) { y = MatMul(x, w) }"
    net = model(text, w=(4, 3))
    feeds = {"x": np.ones((2, 3, 4), np.float32), "mask": np.array([[1, 1, 0], [1, 1, 0]])}
    dense = lambda _: {"y": np.zeros((2, 3, 3), np.float32)}  # noqa: E731
    other = np.zeros((2, 3, 3), np.float32)
    other[:, 2] = [9, 0, 0]
    assert Judge(net, [feeds], dense).loss(lambda _: {"y": other}) == 0
    other[:, 1] = [9, 0, 0]
    assert Judge(net, [feeds], dense).loss(lambda _: {"y": other}) > 0.1


@pytest.mark.parametrize("zero", [0, 3, 5])
@pytest.mark.parametrize("criterion", ["jsd", "influence"])
def test_a_sublayer_that_adds_nothing_goes_first(zero: int, criterion: str) -> None:
    assert gone(stack(zero=zero), f"depth(remove=1, criterion={criterion})") == (f"b{zero}",)


def test_its_removal_costs_nothing() -> None:
    net = stack(zero=2)
    analysis = analyse(net)
    session = Candidates(gated(analysis, (), find_sublayers(analysis).found))
    judge = Judge(net, [DATA], session.run)
    assert judge.loss(lambda feeds: session.run(feeds, bypassed=("b2",))) == 0
    assert judge.loss(lambda feeds: session.run(feeds, bypassed=("b3",))) > 1e-4


@pytest.mark.parametrize("weak", list(combinations(range(LAYERS), 2))[::4])
def test_two_steps_find_the_best_pair_of_six(weak: tuple[int, int]) -> None:
    """Brute force over all pairs: two sublayers matter less than the others, and both are found."""
    net = stack(scales=tuple(0.01 if number in weak else 0.3 for number in range(LAYERS)))
    analysis = analyse(net)
    names = [item.name for item in find_sublayers(analysis).found]
    dense = open_session(net).run(DATA)

    def loss(away: tuple[str, ...]) -> float:
        from graphprune.prune.plan import Plan
        from graphprune.prune.rewrite import rewrite

        small = open_session(rewrite(net, analysis, Plan(bypassed=away))).run(DATA)
        rows = (side["y"].reshape(-1, 7) for side in (dense, small))
        return float(jsd(*(distribution(each.astype(np.float64), "logits") for each in rows)).mean())

    assert gone(net, "depth(remove=1)") == (min(names, key=lambda name: loss((name,))),)
    pairs = {pair: loss(pair) for pair in combinations(names, 2)}
    found = gone(net, "depth(remove=2)")
    assert pairs[found] == min(pairs.values())
    assert found == tuple(f"b{number}" for number in weak)


def test_reverse_takes_the_last_ones_and_needs_no_data() -> None:
    (plan,) = graphprune.compile(stack(), "depth(remove=2, criterion=reverse)").plans
    assert plan.bypassed == ("b4", "b5")


@pytest.mark.parametrize("budget", ["params=0.6", "macs=0.6"])
def test_a_budget_is_met_with_no_more_sublayers_than_needed(budget: str) -> None:
    report = graphprune.compile(stack(), f"depth({budget}, criterion=reverse)").report
    before, after = report.before, report.after
    kind = budget.split("=")[0]
    share = getattr(after, kind) / getattr(before, kind)
    one = 2 * C * F / before.params if kind == "params" else 2 * C * F * 5 / (before.macs / 1)
    assert share <= 0.6 < share + one + 1e-6


def test_a_sublayer_that_a_larger_one_makes_needless_stays() -> None:
    """Small ones go first; once the large one went, they need not."""
    candidates = find_sublayers(analyse(stack(scales=(0.3,) * 3))).found
    weight = dict(zip(candidates, (1, 1, 8), strict=True))
    order = [Removal(item.name, 0.1) for item in candidates]
    assert taken(order, candidates, lambda gone: sum(weight[i] for i in gone) >= 8) == [candidates[2]]
    assert taken(order, candidates, lambda gone: sum(weight[i] for i in gone) >= 9) == [
        candidates[0],
        candidates[2],
    ]


def uneven() -> ir.Model:
    """Three sublayers of 2, 5 and 9 hidden units."""
    body, weights, stream = "", {}, "x"
    for width in (2, 5, 9):
        body += f"""h{width} = MatMul({stream}, u{width})\n g{width} = Relu(h{width})
            b{width} = MatMul(g{width}, d{width})\n r{width} = Add({stream}, b{width})\n"""
        stream = f"r{width}"
        weights |= {f"u{width}": (C, width), f"d{width}": (width, C)}
    return model(
        f"(float[n,5,{C}] x) => (float[n,5,7] y) {{ {body} y = MatMul({stream}, head) }}",
        **weights,
        head=(C, 7),
    )


def test_what_is_left_is_counted_for_every_set_of_sublayers() -> None:
    analysis = analyse(uneven())
    every = find_sublayers(analysis).found
    counted = DepthCost(analysis, {"x": (3, 5, C)})
    sizes = {f"b{width}": 2 * C * width for width in (2, 5, 9)}
    whole = sum(sizes.values()) + C * 7
    assert counted.dense == {"params": whole, "macs": 15 * whole, "bytes": 4 * whole} and not counted.unknown
    for count in range(4):
        for gone in combinations(every, count):
            left = whole - sum(sizes[item.name] for item in gone)
            assert (counted.left("params", gone), counted.left("macs", gone)) == (left, 15 * left)
            for what in ("params", "macs"):
                for share, met in ((left / whole, True), ((left - 0.5) / whole, False), (1.0, True)):
                    assert counted.enough(Budget(what, share))(gone) == met  # type: ignore[arg-type]
                assert counted.enough(Budget(what, 0.5, 2 * counted.left(what, gone)))(gone)  # type: ignore[arg-type]
                assert not counted.enough(Budget(what, 0.5, 2 * counted.left(what, gone) - 1))(gone)  # type: ignore[arg-type]
    for per in ("params", "macs"):
        assert counted.weights(every, per) == pytest.approx(
            {name: size / whole for name, size in sizes.items()}
        )  # type: ignore[arg-type]
    assert set(counted.weights(every, "unit").values()) == {1.0}


def test_a_weight_that_stays_read_is_left() -> None:
    """Two sublayers that share one weight: it goes with both of them."""
    analysis = analyse(model(
        """(float[n,6] x) => (float[n,7] y) { a = MatMul(x, u)\n b = MatMul(a, d)\n r = Add(x, b)
        c = MatMul(r, u)\n e = MatMul(c, f)\n s = Add(r, e)\n y = MatMul(s, head) }""",
        u=(6, 4), d=(4, 6), f=(4, 6), head=(6, 7),
    ))  # fmt: skip
    one, two = find_sublayers(analysis).found
    counted = DepthCost(analysis, {"x": (1, 6)})
    lefts = [counted.params(gone) for gone in ((), (one,), (two,), (one, two))]
    assert lefts == [24 + 24 + 24 + 42, 24 + 24 + 42, 24 + 24 + 42, 42]


@pytest.mark.parametrize(("budget", "what"), [("params=0.99", "params"), ("ratio=0.9", "ratio")])
def test_what_sublayers_leave_behind_is_said_with_why(budget: str, what: str) -> None:
    result = graphprune.compile(stack(scales=(0.3,) * 2), f"depth({budget})", calibration=DATA)
    (line,) = (line for line in result.report.warnings if line.startswith(budget))
    assert "sublayers go as a whole" in line
    assert result.report.budgets[0].what == what and result.report.budgets[0].met


def test_a_ratio_too_small_for_one_sublayer_is_said() -> None:
    report = graphprune.compile(stack(scales=(0.3,) * 2), "depth(ratio=0.4)", calibration=DATA).report
    assert any("ratio=0.4 removes 0.000 of the sublayers: there are 2" in line for line in report.warnings)


def test_a_budget_out_of_reach_is_a_promise_that_fails() -> None:
    with pytest.raises(PromiseError, match="cannot be met"):
        graphprune.compile(stack(), "depth(params=0.01, criterion=reverse)")


def test_globs_choose_the_candidates() -> None:
    assert gone(stack(), "depth(remove=1, criterion=reverse, ignore=b5)") == ("b4",)
    assert gone(stack(), 'depth(remove=1, criterion=reverse, only="b[01]")') == ("b1",)
    with pytest.raises(ArgumentError, match="no sublayer is called 'blocks"):
        gone(stack(), 'depth(only="blocks*")')


def test_without_data_or_sublayers_it_says_so() -> None:
    with pytest.raises(ArgumentError, match="criterion=jsd needs calibration data"):
        graphprune.compile(stack(), "depth(remove=1)")
    flat = model("(float[n,4] x) => (float[n,3] y) { y = MatMul(x, w) }", w=(4, 3))
    with pytest.raises(PromiseError, match="no residual sublayer"):
        graphprune.compile(flat, "depth(remove=1, criterion=reverse)")


def test_what_is_of_unknown_work_is_named_where_it_has_a_name() -> None:
    dense = model(
        """(float[5,6] x) => (float[k,3] y) { i = NonZero(x)\n t = Transpose(i)\n f = Cast <to = 1> (t)
        [rows] a = MatMul(f, w)\n b = MatMul(f, w)\n y = Add(a, b) }""",
        w=(2, 3),
    )
    for node in dense.graph:
        if node.name != "rows":
            node.name = None
    assert DepthCost(analyse(dense), {}).unknown == ["rows", "MatMul"]
