"""A training by itself: schedules, labels, and losses that are no numbers."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.autograd.training import pace
from graphprune.autograd.training.begin import begin
from graphprune.autograd.training.lesson import Lesson
from graphprune.autograd.training.pace import _chosen, find_pace
from graphprune.autograd.training.progress import Checkpoint
from graphprune.autograd.training.setting import Asked, Point, Trained, looks
from graphprune.autograd.training.train import in_vain, scheduled, train
from graphprune.axes.goals import Goal
from graphprune.ir.arrays import Array
from graphprune.run import Run
from tests.proof.building import model

pytestmark = pytest.mark.zoo
TEXT = "(float[n,6] x) => (float[n,3] y) {\nh = MatMul(x, w)\nr = Relu(h)\ny = MatMul(r, v)\n}"
X = np.random.default_rng(0).standard_normal((96, 6)).astype(np.float32)


def net(seed: int = 0, scale: float = 1.0) -> ir.Model:
    random = np.random.default_rng(seed)
    weights = {
        name: scale * random.standard_normal(shape) for name, shape in (("w", (6, 16)), ("v", (16, 3)))
    }
    return model(TEXT, 21, **{name: array.astype(np.float32) for name, array in weights.items()})


def lesson(small: ir.Model, labels: Array | None = None, rank: int = 0) -> Lesson:
    feeds = [{"x": row[None]} for row in X]
    told = None if labels is None else (labels[:64].tolist(), labels[64:].tolist())
    return begin(
        dense=net(),
        model=small,
        goals=[Goal("y", "y", "classes")],
        samples=feeds[:64],
        selection=feeds[64:],
        axes={"x": 0},
        narrow=dict,
        rank=rank,
        run=Run(),
        labels=told,
    )


def trained(given: Lesson, steps: int = 100, rate: float = 0.01) -> Trained:
    return train(given, Asked(60, steps, 8, rate), Run(), Checkpoint())


def right(found: Trained, labels: Array) -> float:
    hidden = np.maximum(X @ found.weights["w"], 0)
    return float(((hidden @ found.weights["v"]).argmax(axis=1) == labels).mean())


def test_labels_are_learned_beside_the_dense_model() -> None:
    """Labels that the dense model does not give move the classes towards them."""
    labels = X[:, :3].argmax(axis=1)
    told, untold = (trained(lesson(net(1), given)) for given in (labels, None))
    assert right(told, labels) > right(untold, labels) + 0.05


def test_a_change_of_low_rank_has_that_rank() -> None:
    small = net(1)
    found = trained(lesson(small, rank=1), 40)
    before = small.graph.initializers["w"].const_value.numpy()
    change = np.linalg.svd(found.weights["w"] - before, compute_uv=False)
    assert change[0] > 0.01 and (change[1:] < 1e-5).all()


def test_a_rate_that_ruins_the_model_is_not_chosen() -> None:
    given = lesson(net(0, scale=1.02))
    found = find_pace(given, Asked(60, steps=10, batch=8), lambda: 0.0)
    kept = {kind: row.clone() for kind, row in given.weights.rows.items()}
    assert found.rate <= 1e-3  # it is all but learned
    assert all((row == given._start[kind]).all() for kind, row in kept.items())
    far = find_pace(lesson(net(5)), Asked(60, steps=10, batch=8), lambda: 0.0)
    assert far.rate == 2e-3


def test_where_every_rate_does_harm_at_first_the_least_is_not_taken_for_that() -> None:
    given = lesson(net(0, scale=1.02))  # all but learned
    before = given.selected(given.weights.rows)
    assert _chosen({1e-4: 1.2 * before, 5e-4: 1.3 * before, 2e-3: 1.5 * before}, given) == 2e-3
    assert _chosen({1e-4: 0.9 * before, 5e-4: 0.95 * before, 2e-3: 1.1 * before}, given) == 5e-4
    assert _chosen({1e-4: 1.2 * before, 2e-3: 9 * before}, given) == 1e-4


def test_without_the_time_for_trials_the_usual_rate_is_taken() -> None:
    late = iter(range(1000))
    found = find_pace(lesson(net(5)), Asked(1, batch=8), lambda: float(next(late)))
    assert found.rate == 5e-4 and found.steps == 1


@pytest.mark.parametrize(("steps", "expected"), [(8, 2), (24, 4), (40, 7), (1200, 12)])
def test_short_trainings_look_less_often(steps: int, expected: int) -> None:
    """Looks take a quarter as long as steps: a look at a sample costs a third of a step for it."""
    assert looks(steps, 8, 32) == expected
    if steps < 100:
        strides = np.diff([point.step for point in trained(lesson(net(1)), steps).curve])
        assert set(strides[:-1]) == {steps // expected}


def test_dear_looks_are_paid_for_out_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps long each: a short training makes fewer, a long one all twelve and the first."""
    monkeypatch.setattr(pace, "_seconds", lambda lesson, batch: 1.0)
    given = lesson(net(5))
    monkeypatch.setattr(pace, "Watch", lambda: lambda: 4.0)

    def steps(seconds: float) -> int:
        found = find_pace(given, Asked(seconds, batch=8, rate=1e-3), lambda: 0.0)
        assert found.steps + 4 * (1 + looks(found.steps, 8, len(given.selection))) <= seconds + 4
        return found.steps

    assert 990 - 4 * 13 < steps(1000.0) <= 1000 - 4 * 13
    assert steps(60.0) > 60 - 4 * 13 + 12


def test_the_rate_grows_then_falls_to_nothing() -> None:
    rates = [scheduled(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-3
    assert scheduled(0, 1) == 1.0


def test_a_training_ends_when_looks_are_in_vain() -> None:
    def curve(*losses: float) -> list[Point]:
        return [Point(at, math.nan, loss) for at, loss in enumerate(losses)]

    assert not in_vain(curve(9, 1, 2, 2, 2, 2, 2))
    assert in_vain(curve(9, 1, 2, 2, 2, 2, 2, 2))
    assert not in_vain(curve(9, 3, 2, 2, 2, 2, 2, 1))
    assert not in_vain(curve(1, 9, 8, 7, 6, 5, 4, 3))  # what was repaired fits its samples


def test_large_answers_are_looked_at_only_as_far_as_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.autograd.training import begin as module

    seen: list[int] = []
    true = module.aims
    monkeypatch.setattr(
        module, "aims", lambda goals, answers: (seen.append(len(answers)), true(goals, answers))[1]
    )
    lesson(net(1))
    monkeypatch.setattr(module, "BYTES", 3 * 4 * 5)  # five answers of three numbers
    lesson(net(1))
    monkeypatch.setattr(module, "BYTES", 1)
    lesson(net(1))
    assert seen == [64, 6, 2]
