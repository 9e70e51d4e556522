"""Scores near zero: a kernel's rounding there is no fault of a cut, and a fault of a cut is still found."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.proof.compare import Comparison
from graphprune.proof.decisions import behind, find_holders
from graphprune.proof.scales import squashers

from .building import Case, cut, model

HEAD = """(float[1,3,16,16] x) => (float[1,20] v, int64[1,20] i) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    b = Relu(a)
    c = Conv <pads = [1, 1, 1, 1]> (b, w2)
    d = Relu(c)
    e = Conv(d, w3, low)
    f = Reshape(e, shape)
    [score] p = Sigmoid(f)
    SCORES
    m = ReduceMax <axes = [1], keepdims = 0> (q)
    [best] v, i = TopK <axis = -1> (m, k)
}"""
"""A detector on an input without objects: logits around -15, scores of a few steps of rounding."""
PLAIN = "q = Identity(p)"
WEIGHED = "g = Conv(d, w4) h = Reshape(g, one) c0 = Sigmoid(h) c1 = Mul(p, c0) q = Sqrt(c1)"
"""With a score for how central a position is."""


def head(scores: str = PLAIN) -> Case:
    rng = np.random.default_rng(0)
    shapes = {"w1": (32, 3, 3, 3), "w2": (32, 32, 3, 3), "w3": (4, 32, 1, 1)}
    weights = {name: 0.15 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if scores == WEIGHED:
        weights |= {
            "w4": 0.15 * rng.standard_normal((1, 32, 1, 1)).astype(np.float32),
            "one": np.array([1, 1, 256]),
        }
    low, shape, k = np.full(4, -15, np.float32), np.array([1, 4, 256]), np.array([20])
    return cut(model(HEAD.replace("SCORES", scores), low=low, shape=shape, k=k, **weights))


@pytest.mark.parametrize("scores", [PLAIN, WEIGHED])
def test_scores_of_no_object_are_no_fault_of_the_cut(scores: str) -> None:
    proof = head(scores).prove()
    assert proof.ok, proof.details
    assert proof.error < 1e-4 and proof.tolerance == 1e-4, "nothing is excused"
    assert "v" in proof.errors, "the largest values in order are compared, whichever of them tie"


def test_a_wrong_logit_is_found_where_its_score_hides_it() -> None:
    case = head()
    case.tensor("low", lambda a: a - 0.01)
    failures = case.prove().failures
    assert any("input 'f' of Sigmoid 'score'" in line for line in failures)
    assert not any("of TopK" in line for line in failures), "the scores alone would not tell"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("s = Sigmoid(x) t = Transpose(s) y = Concat <axis = 0> (t, t)", {"Sigmoid"}),
        ("s = Sigmoid(x) t = Softmax(x) y = Mul(s, t)", {"Sigmoid", "Softmax"}),
        ("s = Sigmoid(x) t = Mul(s, s) y = Sqrt(t)", {"Sigmoid"}),
        ("s = Sigmoid(x) y = Mul(s, hundred)", set()),
        ("s = Sigmoid(x) y = Max(s, x)", set()),
        ("s = Sigmoid(x) y = Add(s, s)", set()),
        ("y = Relu(x)", set()),
    ],
)
def test_a_full_scale_of_one_is_kept_by_what_moves_and_joins(body: str, found: set[str]) -> None:
    hundred = {"hundred": np.array(100, np.float32)} if "hundred" in body else {}
    graph = model("(float[4,4] x) => (float[m,n] y) {" + body + "}", **hundred).graph
    assert {node.op_type for node in squashers(graph.outputs[0])} == found


@pytest.mark.parametrize(("ordered", "hidden"), [(1, {"i", "z"}), (0, {"v", "w", "i", "z"})])
def test_the_largest_values_in_order_do_not_jump(ordered: int, hidden: set[str]) -> None:
    dense = model(
        "(float[4,9] x) => (float[4,3] w, float[4,3] z) { v, i = TopK <sorted = "
        + str(ordered)
        + "> (x, k) w = Relu(v) z = Cast <to = 1> (i) }",
        k=np.array([3]),
    )
    top = next(node for node in dense.graph if node.op_type == "TopK")
    assert {value.name for value in behind([top], find_holders(dense))} == hidden


def test_picks_may_differ_only_as_far_as_their_scores_do() -> None:
    case = head()
    comparison, names = _comparison(case)
    scores = np.linspace(0.1, 0.9, 256, dtype=np.float32)[None]
    values, picks = np.sort(scores)[:, :-21:-1], np.argsort(scores)[:, :-21:-1]
    logits = np.linspace(-15, -14, 1024, dtype=np.float32).reshape(1, 4, 256)
    run = {"f": logits, "m": scores, "v": values, "i": picks}
    swapped = picks.copy()
    swapped[0, :2] = picks[0, 1::-1]
    comparison.add(run, {names[name]: array for name, array in {**run, "i": swapped}.items()})
    assert any("picks differ, but not at ties" in line for line in comparison.failures())


def _comparison(case: Case) -> tuple[Comparison, dict[str, str]]:
    from graphprune.proof.decisions import find_decisions
    from graphprune.proof.declared import declare
    from graphprune.proof.pairing import pair
    from graphprune.proof.reference import build_reference
    from graphprune.proof.rounding import Bounds
    from graphprune.proof.survivors import Survivors

    survivors = Survivors(case.analysis, case.plan)
    pairing = pair(case.dense, case.pruned, declare(survivors))
    decisions, _ = find_decisions(case.dense, survivors, build_reference(case.dense, survivors), pairing)
    taps = [tap for decision in decisions for tap in (*decision.inputs, *decision.outputs)]
    names = {tap.reference: tap.pruned for tap in taps}
    return Comparison(survivors, case.dense, decisions, Bounds(1e-4)), {name: name for name in "fmvi"} | names
