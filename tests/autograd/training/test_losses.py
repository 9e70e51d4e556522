"""Losses by kind of output: their formulas, their balance, and detectors whose background is most of all."""

from __future__ import annotations

import math

import pytest
import torch

from graphprune.autograd.training.losses import Aim, aims, loss
from graphprune.axes.goals import Goal

pytestmark = pytest.mark.zoo
CLASSES, SCORES, VALUES = Goal("p", "p", "classes"), Goal("s", "s", "scores"), Goal("b", "b", "values")


def value(goal: Goal, small: torch.Tensor, dense: torch.Tensor, **how: object) -> float:
    return float(loss((Aim(goal, **how),), {goal.value: small}, {goal.value: dense}))


def test_classes_are_compared_by_the_divergence_of_their_distributions() -> None:
    dense, small = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert value(CLASSES, small, dense) == pytest.approx(expected, rel=1e-6)
    chances = Goal("p", "p", "classes", chances=True)
    assert value(chances, small.softmax(-1), dense.softmax(-1)) == pytest.approx(expected, rel=1e-5)


def test_scores_are_compared_one_by_one() -> None:
    dense, small = torch.tensor([math.log(3.0), 0.0]), torch.tensor([0.0, 0.0])
    expected = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert value(SCORES, small, dense) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("goal", [CLASSES, SCORES, VALUES])
def test_a_loss_of_one_is_that_of_the_best_constant_answer(goal: Goal) -> None:
    torch.manual_seed(0)
    answers = [{goal.value: 3 * torch.randn(1, 5)} for _ in range(64)]
    (aim,) = aims((goal,), answers)
    stack = torch.cat([each[goal.value] for each in answers])
    best = {
        "classes": lambda: stack.softmax(-1).mean(0).log(),
        "scores": lambda: torch.logit(torch.sigmoid(stack).mean(0)),
        "values": lambda: stack.mean(0),
    }[goal.kind]()
    found = float(loss((aim,), {goal.value: best.expand_as(stack)}, {goal.value: stack}))
    assert found == pytest.approx(1.0, rel=1e-4)


def test_outputs_of_any_scale_count_alike() -> None:
    torch.manual_seed(0)
    answers = [{"b": torch.randn(1, 4), "c": 1000 * torch.randn(1, 4)} for _ in range(32)]
    both = aims((VALUES, Goal("c", "c", "values")), answers)
    zero = {name: torch.zeros(32, 4) for name in ("b", "c")}
    dense = {name: torch.cat([each[name] for each in answers]) for name in ("b", "c")}
    ours = [float(loss((aim,), zero, dense)) for aim in both]
    assert ours[0] == pytest.approx(1, rel=0.2) and ours[1] == pytest.approx(1, rel=0.2)


def detector(anchors_last: bool) -> list[dict[str, torch.Tensor]]:
    """One object among 200 anchors, and boxes."""
    found = []
    for at in range(8):
        scores, boxes = torch.full((1, 200, 3), -6.0), torch.randn(1, 200, 4)
        scores[0, at, 1] = 4.0
        if anchors_last:
            scores, boxes = scores.transpose(1, 2), boxes.transpose(1, 2)
        found.append({"s": scores, "b": boxes})
    return found


@pytest.mark.parametrize("anchors_last", [False, True])
def test_background_does_not_drown_objects(anchors_last: bool) -> None:
    answers = detector(anchors_last)
    scores, boxes = aims((SCORES, VALUES), answers)
    assert scores.background == 0 and boxes.head is not None and boxes.head.goal == SCORES
    dense = answers[3]
    wrong = dense["b"].clone()
    at = (0, slice(None), 3) if anchors_last else (0, 3)
    wrong[at] += 1.0  # the box of the object
    elsewhere = dense["b"].clone()
    elsewhere[(0, slice(None), 9) if anchors_last else (0, 9)] += 1.0
    object_, nothing = (float(loss((boxes,), {"b": each}, dense)) for each in (wrong, elsewhere))
    assert object_ > 50 * nothing
    flat = Aim(SCORES)
    missed = {"s": torch.full_like(dense["s"], -6.0)}
    assert float(loss((scores,), missed, dense)) * scores.scale > 50 * float(loss((flat,), missed, dense))


def test_a_detector_with_a_class_for_background() -> None:
    goal, answers = Goal("p", "p", "classes"), []
    for at in range(8):
        logits, boxes = torch.zeros(1, 100, 2), torch.randn(1, 100, 4)
        logits[..., 0] = 5.0
        logits[0, at] = torch.tensor([0.0, 5.0])
        answers.append({"p": logits, "b": boxes})
    classes, boxes = aims((goal, VALUES), answers)
    assert classes.background == 0 and boxes.head is not None and boxes.across == -1


def test_padding_is_left_out() -> None:
    dense = torch.randn(1, 4, 7)
    small = dense.clone()
    small[0, 2:] = 0.0
    real = torch.tensor([[True, True, False, False]])
    aim = Aim(Goal("p", "p", "classes", tokens="ids"))
    assert float(loss((aim,), {"p": small}, {"p": dense}, real)) == pytest.approx(0, abs=1e-6)
    assert float(loss((aim,), {"p": small}, {"p": dense})) > 0.01
