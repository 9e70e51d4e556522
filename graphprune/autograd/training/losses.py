"""How far values are from the dense model's: one number per goal, and their balanced sum.

- classes: KL divergence of the distributions, over positions.
- scores: the same of each number in [0, 1] by itself.
- values: squared error.

Each is divided by what the best constant answer loses, which for values is the dense variance: outputs of any
scale then count alike. Where hardly any position shows an object (detection heads), positions of scores are
weighted by the larger of both models' probability of one, and values beside them by the dense model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.axes.goals import Goal
from graphprune.ops.torch.call import Tensor

Values = Mapping[str, Tensor]
RARE, POSITIONS = 0.1, 64
"""Share of positions that show anything, and positions per sample, from which on a head is a detector's."""
LEAST = 1e-6
"""What the best constant answer is taken to lose at least."""


@dataclass(frozen=True)
class Aim:
    """A goal and how much it counts.

    Attributes:
        goal: what is compared.
        scale: what it is divided by.
        background: the class that stands for no object; None where objects are not rare. 0 for scores.
        head: the scores whose objects weight these values.
        across: the axis, from the end, of what a position of that head holds; 0 where that is one number.
    """

    goal: Goal
    scale: float = 1.0
    background: int | None = None
    head: Aim | None = None
    across: int = 0


def aims(goals: Sequence[Goal], answers: Sequence[Mapping[str, Tensor]]) -> tuple[Aim, ...]:
    """Goals with what the dense model's answers to single samples say of them."""
    found = [_aim(goal, [each[goal.value] for each in answers]) for goal in goals]
    heads = [aim for aim in found if aim.background is not None]
    return tuple(_scaled(_beside(aim, heads, answers[0]), answers) for aim in found)


def _aim(goal: Goal, arrays: Sequence[Tensor]) -> Aim:
    first = arrays[0]
    if goal.kind == "values" or first.dim() < 2:
        return Aim(goal)
    if goal.kind == "scores":
        chance = torch.cat([_chance(goal, array).reshape(-1) for array in arrays])
        rare = first.numel() >= POSITIONS and float(chance.mean()) < RARE
        return Aim(goal, background=0 if rare else None)
    best = torch.cat([array.argmax(goal.axis).reshape(-1) for array in arrays])
    most = int(best.mode().values)
    positions = first.numel() // first.shape[goal.axis]
    rare = positions >= POSITIONS and float((best != most).float().mean()) < RARE and not goal.tokens
    return Aim(goal, background=most if rare else None)


def _beside(aim: Aim, heads: Sequence[Aim], answer: Values) -> Aim:
    """Values with a row for each position of a detector's scores."""
    if aim.goal.kind != "values":
        return aim
    shape = answer[aim.goal.value].shape
    for head in heads:
        across = _across(head.goal, answer[head.goal.value].shape, shape)
        if across is not None:
            return replace(aim, head=head, across=across)
    return aim


def _across(goal: Goal, scores: torch.Size, values: torch.Size) -> int | None:
    """The axis of what a position holds, where scores and values have the same positions."""
    if scores == values[:-1]:
        return 0 if goal.kind == "scores" else None
    if len(scores) != len(values):
        return None
    apart = [axis for axis in range(-len(scores), 0) if scores[axis] != values[axis]]
    axis = goal.axis if goal.kind == "classes" else (apart or [-1])[0]
    return axis if set(apart) <= {axis} else None


def _scaled(aim: Aim, answers: Sequence[Values]) -> Aim:
    """Divided by what the mean answer loses; sums over samples of any size."""
    name = aim.goal.value
    shapes = {each[name].shape for each in answers}
    flat = len(shapes) > 1
    if aim.goal.kind == "values":
        arrays = [each[name].double() for each in answers]
        means = torch.stack([a.mean() if flat else a for a in arrays])
        apart = sum(float((a - means.mean(0)).square().mean()) for a in arrays)
        return replace(aim, scale=max(apart / len(arrays), LEAST))
    if flat:
        return aim
    chances = torch.stack([_chance(aim.goal, each[name]) for each in answers])
    guess = torch.log(chances.mean(0).clamp(LEAST, 1))
    if aim.goal.kind == "scores":
        guess = torch.logit(chances.mean(0).clamp(LEAST, 1 - LEAST))
    constant = replace(aim, goal=replace(aim.goal, chances=False))
    lost = [
        float(loss((constant,), {name: guess}, {name: _logits(aim.goal, each[name])})) for each in answers
    ]
    return replace(aim, scale=max(sum(lost) / len(lost), 1e-3))


def _logits(goal: Goal, array: Tensor) -> Tensor:
    """Logits of a distribution or of scores, whichever way they are written."""
    if not goal.chances:
        return array
    if goal.kind == "scores":
        return torch.logit(array.clamp(LEAST, 1 - LEAST))
    return torch.log(array.clamp_min(LEAST))


def _chance(goal: Goal, array: Tensor) -> Tensor:
    logits = _logits(goal, array)
    return torch.sigmoid(logits) if goal.kind == "scores" else torch.softmax(logits, goal.axis)


def _foreground(head: Aim, array: Tensor, across: int) -> Tensor:
    """The probability of an object at each position, with an axis of one for the values there."""
    chance = _chance(head.goal, array)
    if not across:
        return chance.unsqueeze(-1)
    if head.goal.kind == "scores":
        return chance.amax(across, keepdim=True)
    assert head.background is not None
    return 1 - chance.select(across, head.background).unsqueeze(across)


def label_scale(labels: Tensor) -> float:
    """The cross-entropy of the best constant answer: the entropy of how frequent labels are."""
    often = labels.mean(0)
    return max(float(torch.special.entr(often).sum()), 1e-3)


def labelled(goal: Goal, small: Values, labels: Tensor) -> Tensor:
    """The cross-entropy with labels [samples, classes], which have one position per sample."""
    logits = _logits(goal, small[goal.value]).reshape(labels.shape)
    return -(labels * F.log_softmax(logits, -1)).sum(-1).mean()


def loss(found: Sequence[Aim], small: Values, dense: Values, real: Tensor | None = None) -> Tensor:
    """The balanced sum over all aims.

    Args:
        found: what is compared, and how much each counts.
        small: values of the compressed model, by name.
        dense: the same of the dense model.
        real: which positions [samples, positions] are no padding.
    """
    total = [_one(aim, small, dense, real) / aim.scale for aim in found]
    return torch.stack(total).sum() / len(total)


def _one(aim: Aim, small: Values, dense: Values, real: Tensor | None) -> Tensor:
    goal = aim.goal
    one, two = dense[goal.value], small[goal.value]
    if goal.kind == "values":
        head = aim.head
        weight = None if head is None else _foreground(head, dense[head.goal.value], aim.across)
        return _mean((two - one).square(), weight)
    one, two = _logits(goal, one), _logits(goal, two)
    if goal.kind == "scores":
        apart, weight = _binary(one, two), None
        if aim.background is not None:
            weight = torch.maximum(torch.sigmoid(one), torch.sigmoid(two)).detach()
        return _mean(apart, weight)
    apart = _divergence(one, two, goal.axis)
    weight = None
    if aim.background is not None:
        both = [1 - torch.softmax(each, goal.axis).select(goal.axis, aim.background) for each in (one, two)]
        weight = torch.maximum(*both).detach()
    elif real is not None and real.shape == apart.shape:
        weight = real.to(apart.dtype)
    return _mean(apart, weight)


def _divergence(one: Tensor, two: Tensor, axis: int) -> Tensor:
    """KL(one || two) of softmaxes along an axis."""
    p, q = F.log_softmax(one, axis), F.log_softmax(two, axis)
    return (p.exp() * (p - q)).sum(axis)


def _binary(one: Tensor, two: Tensor) -> Tensor:
    """KL of two numbers in [0, 1], element by element."""
    p = torch.sigmoid(one)
    own = F.binary_cross_entropy_with_logits(one, p, reduction="none")
    return F.binary_cross_entropy_with_logits(two, p, reduction="none") - own


def _mean(apart: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return apart.mean()
    spread = weight.expand_as(apart)
    return (apart * spread).sum() / spread.sum().clamp_min(LEAST)
