"""Values inside the graph as further aims: results of layers that lost inputs and kept their width."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from graphprune.autograd.training import begin as module
from graphprune.autograd.training import matches
from graphprune.autograd.training.begin import begin
from graphprune.autograd.training.lesson import Lesson
from graphprune.autograd.training.matches import matched, small_enough
from graphprune.autograd.training.progress import Checkpoint
from graphprune.autograd.training.setting import Asked
from graphprune.autograd.training.train import train
from graphprune.axes.goals import Goal
from graphprune.run import Run
from tests.proof.building import model

pytestmark = pytest.mark.zoo
TEXT = """(float[n,6] x) => (float[n,3] y) {
    h = MatMul(x, w)
    r = Relu(h)
    p = MatMul(r, v)
    i = Add(p, b)
    s = Relu(i)
    y = MatMul(s, u)
}"""
GOALS = (Goal("y", "y", "classes"),)
X = np.random.default_rng(0).standard_normal((96, 6)).astype(np.float32)


def net(width: int = 16) -> ir.Model:
    random = np.random.default_rng(0)
    whole = {"w": (6, 16), "v": (16, 8), "b": (8,), "u": (8, 3)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in whole.items()}
    weights["w"], weights["v"] = weights["w"][:, :width], weights["v"][:width]
    return model(TEXT, 21, **weights)


def lesson(matching: bool) -> Lesson:
    feeds = [{"x": row[None]} for row in X]
    return begin(
        dense=net(),
        model=net(10),
        goals=GOALS,
        samples=feeds[:64],
        selection=feeds[64:],
        axes={"x": 0},
        narrow=dict,
        rank=0,
        run=Run(),
        matches=matching,
    )


def apart(weights: dict[str, np.ndarray]) -> float:
    """The mean squared difference of the value inside."""
    dense = {name: value.const_value.numpy() for name, value in net().graph.initializers.items()}
    one, two = (np.maximum(X @ each["w"], 0) @ each["v"] + each["b"] for each in (dense, weights))
    return float(np.square(one - two).mean())


def test_a_layer_that_lost_inputs_is_matched_behind_its_bias() -> None:
    assert [aim.goal.value for aim in lesson(True).inner] == ["i"]
    assert not lesson(False).inner and not matched(net(), net(), GOALS)


def test_values_of_other_shapes_or_too_large_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    goals = [Goal(name, name, "values") for name in "abc"]
    dense = {"a": torch.zeros(2, 3), "b": torch.zeros(2), "c": torch.zeros(4)}
    small = {**dense, "a": torch.zeros(2, 2)}
    assert [goal.value for goal in small_enough(goals, dense, small)] == ["b", "c"]
    monkeypatch.setattr(matches, "ROOM", 8)
    assert [goal.value for goal in small_enough(goals, dense, small)] == ["b"]


def test_matching_brings_the_value_inside_nearer_and_chooses_by_outputs_alone() -> None:
    found = []
    for matching in (False, True):
        given = lesson(matching)
        before = given.selected(given.weights.rows)
        trained = train(given, Asked(60, 150, 8, 0.01), Run(), Checkpoint())
        assert trained.curve[0].selection == before
        found.append((apart(dict(trained.weights)), before))
    assert found[1][0] < 0.9 * found[0][0]
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


def test_values_inside_count_as_much_as_was_asked_before_any_step() -> None:
    given = lesson(True)
    (part,) = given._drawn(0, 0, 8)
    with torch.no_grad():
        both, outer = float(given._loss(part, given.inner)), float(given._loss(part))
    assert both == pytest.approx((1 + module.MATCHED) * outer, rel=1e-4)
