"""What an output's numbers are, and how far two models' are apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import DataError
from graphprune.prune.divergence import DEPTH, Judge, Scale, targets
from graphprune.runtime.session import Feeds, Outputs, open_session
from tests.proof.building import model, parsed

SCALES: dict[str, tuple[str, Scale]] = {
    "softmax over the last axis": ("h = MatMul(x, w)\n y = Softmax <axis = -1> (h)", "probabilities"),
    "softmax over axis 2 of 3": ("h = MatMul(x, w)\n y = Softmax <axis = 2> (h)", "probabilities"),
    "softmax that says no axis": ("h = MatMul(x, w)\n y = Softmax(h)", "probabilities"),
    "softmax over another axis": ("h = MatMul(x, w)\n y = Softmax <axis = 1> (h)", "numbers"),
    "log of a softmax": ("h = MatMul(x, w)\n y = LogSoftmax(h)", "log"),
    "a product": ("y = MatMul(x, w)", "logits"),
    "a product with bias and cap": ("h = MatMul(x, w)\n b = Add(h, c)\n t = Tanh(b)\n y = Mul(t, k)",
                                     "logits"),
    "a product less an offset": ("h = MatMul(x, w)\n y = Sub(h, c)", "logits"),
    "a fused product": ("y = com.microsoft.FusedMatMul(x, w)", "logits"),
    "a product of two columns": ("y = MatMul(x, two)", "logits"),
    "a product of one column": ("y = MatMul(x, one)", "numbers"),
    "a product behind a nonlinearity": ("h = MatMul(x, w)\n y = Relu(h)", "numbers"),
    "a product far away": ("h = MatMul(x, w)" + "".join(
        f"\n {b} = Tanh({a})" for a, b in zip("habdefg", "abdefgi", strict=True)
    ) + "\n y = Identity(i)", "numbers"),
    "the sum of two products": ("a = MatMul(x, w)\n b = MatMul(x, w)\n y = Add(a, b)", "numbers"),
    "an input": ("y = Identity(x)", "numbers"),
}  # fmt: skip


def built(name: str) -> ir.Model:
    body = SCALES[name][0]
    width = 6 if "an input" in name else 1 if "one column" in name else 2 if "two columns" in name else 5
    weights = {"w": (6, 5), "one": (6, 1), "two": (6, 2), "c": (5,), "k": np.array(3.0, np.float32)}
    used = {key: value for key, value in weights.items() if f" {key})" in body}
    return model(f"(float[n,4,6] x) => (float[n,4,{width}] y) {{ {body} }}", **used)


@pytest.mark.parametrize("name", SCALES)
def test_an_output_is_compared_as_what_it_is(name: str) -> None:
    (target,) = targets(built(name))
    assert target.scale == SCALES[name][1]
    (target,) = targets(built(name), "l2")
    assert target.scale == "numbers"
    for metric in ("kl", "jsd"):  # everything is a distribution, and what no Softmax gives is taken as logits
        (target,) = targets(built(name), metric)  # type: ignore[arg-type]
        assert target.scale == {"numbers": "logits"}.get(SCALES[name][1], SCALES[name][1])


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        ("(float[n,6] x) => (float[n,5] y) { y = MatMul(x, w) }", "logits"),
        ("(float[5,6] x) => (float[5] y) { y = MatMul(x, v) }", "numbers"),
        ("(float[n,6] x) => (float[n,c] y) { y = MatMul(x, w) }", "numbers"),
    ],
)
def test_classes_are_the_last_of_two_or_more_axes_and_their_number_is_known(body: str, scale: Scale) -> None:
    (target,) = targets(sized(body))
    assert target.scale == scale


def sized(body: str) -> ir.Model:
    return parsed(body, **({"v": (6,)} if "v)" in body else {"w": (6, 5)}))


@pytest.mark.parametrize(("between", "scale"), [(DEPTH - 1, "logits"), (DEPTH, "numbers")])
def test_a_product_is_looked_for_so_many_nodes_back(between: int, scale: Scale) -> None:
    chain = "".join(f"\n h{n + 1} = Tanh(h{n})" for n in range(between - 1))
    body = f"h0 = MatMul(x, w){chain}\n y = Tanh(h{between - 1})"
    (target,) = targets(model(f"(float[n,6] x) => (float[n,5] y) {{ {body} }}", w=(6, 5)))
    assert target.scale == scale


PAIR = "(float[n,6] x) => (float[n,5] y, float[n,3] z) { y = MatMul(x, v)\n h = MatMul(x, w)\n z = Relu(h) }"


def test_numbers_are_compared_by_their_relative_distance_and_the_worst_output_counts() -> None:
    draw = np.random.default_rng(0)
    weights = {"v": draw.standard_normal((6, 5)), "w": draw.standard_normal((6, 3))}
    dense = model(PAIR, **{name: array.astype(np.float32) for name, array in weights.items()})
    other = model(PAIR, v=weights["v"].astype(np.float32), w=(1.25 * weights["w"]).astype(np.float32))
    data = [{"x": draw.standard_normal((n, 6)).astype(np.float32)} for n in (5, 8)]
    judge = Judge(dense, data, open_session(dense).run)
    losses = judge.losses(open_session(other).run)
    assert losses["y"] == pytest.approx(0, abs=1e-12) and losses["z"] == pytest.approx(0.25)
    assert judge.loss(open_session(other).run) == pytest.approx(0.25)


def test_what_is_no_number_is_infinitely_far() -> None:
    dense = model(PAIR, v=(6, 5), w=(6, 3))
    data = [{"x": np.ones((2, 6), np.float32)}]
    judge = Judge(dense, data, open_session(dense).run)
    nothing = {"y": np.full((2, 5), np.nan), "z": np.zeros((2, 3))}
    assert judge.losses(lambda feeds: nothing)["y"] == np.inf


def test_padding_is_not_compared() -> None:
    body = """(float[n,4,6] x, int64[n,4] attention_mask) => (float[n,4,5] y) {
        m = Cast <to = 1> (attention_mask)
        u = Unsqueeze(m, two)
        g = Mul(x, u)
        y = MatMul(g, w) }"""
    dense = model(body, w=(6, 5), two=np.array([2]))
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])
    feeds = {"x": np.ones((2, 4, 6), np.float32), "attention_mask": mask}
    run = open_session(dense).run
    judge = Judge(dense, [feeds], run)

    def wrong(padding: bool) -> Callable[[Feeds], Outputs]:
        found = np.array(run(feeds)["y"])
        found[(mask == 0) == padding] += np.arange(5)
        return lambda given: {"y": found}

    assert judge.loss(wrong(padding=True)) == pytest.approx(0, abs=1e-9)
    assert judge.loss(wrong(padding=False)) > 0.01


def test_integers_are_nothing_to_judge_by() -> None:
    body = "(float[n,6] x) => (int64[n] y) { h = MatMul(x, w)\n y = ArgMax <axis = 1, keepdims = 0> (h) }"
    dense = model(body, w=(6, 5))
    with pytest.raises(DataError, match="no floating output"):
        Judge(dense, [{"x": np.ones((1, 6), np.float32)}], open_session(dense).run)
