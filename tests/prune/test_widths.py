"""The solver's view of a model: what it costs at any widths, and the widths that lose least."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.prune.choose import Budget, Rules, choose
from graphprune.prune.widths import Allocation, Widths
from tests.axes.claims import sketch

from .widths import convs, deep, grouped

CONCAT = """(float[n,3,8,8] x) => (float[n,5,8,8] y) {
    a = Conv(x, w1)\n b = Conv(x, w2)\n c = Concat <axis = 1> (a, b)\n d = Relu(c)\n e = Conv(d, w3)
    f = Add(e, a)\n y = Conv(f, w4) }"""


def joined() -> ir.Model:
    """One width in a Concat and in a sum."""
    weights = {"w1": (8, 3, 1, 1), "w2": (12, 3, 1, 1), "w3": (8, 20, 1, 1), "w4": (5, 8, 1, 1)}
    return sketch(CONCAT, **weights).model


MODELS = {"mlp": deep(), "convs": convs(8, 12), "grouped": grouped(4), "joined": joined()}
MEASURES = ("params", "macs", "bytes")


@pytest.mark.parametrize("name", MODELS)
def test_it_costs_what_the_model_would_at_any_widths(name: str) -> None:
    analysis = analyse(MODELS[name])
    model, groups = CostModel(analysis, {}), analysis.prunable
    allocation = Allocation(analysis, model, groups, {}, {}, lambda gone: {})
    chance = np.random.default_rng(0)
    every = [Widths(at, np.arange(group.size), np.zeros(group.size)) for at, group in enumerate(groups)]
    blocks = [1 if group.block is None else len(np.unique(group.block)) for group in groups]
    for _ in range(20):
        gone = [
            int(chance.integers(group.size // each)) * each
            for group, each in zip(groups, blocks, strict=True)
        ]
        left = [np.array([group.size - count]) for group, count in zip(groups, gone, strict=True)]
        cuts = {
            group.id: tuple(np.sort(group.removals(chance.random(group.size)).ravel()[count:]).tolist())
            for group, count in zip(groups, gone, strict=True)
        }
        kept = Kept(analysis, cuts)
        costs = allocation._costs(left, allocation._factors(every), dict.fromkeys(MEASURES, 0.0))
        for measure in MEASURES:
            found = costs.total(np.zeros(len(groups), np.int64), measure)
            assert found == pytest.approx(getattr(model, measure)(kept)), (measure, gone)


@pytest.mark.parametrize("name", ["convs", "joined"])
@pytest.mark.parametrize("asked", [{"macs": 0.5}, {"params": 0.4, "macs": 0.6}, {"bytes": 0.3}])
def test_of_all_widths_within_the_budgets_it_takes_those_that_lose_least(
    name: str, asked: dict[str, float]
) -> None:
    analysis = analyse(MODELS[name])
    model, groups = CostModel(analysis, {}), analysis.prunable
    chance = np.random.default_rng(1)
    scores = {group.id: chance.random(group.size) for group in groups}
    curves = {
        group.id: np.concatenate([[0.0], np.cumsum(chance.exponential(size=group.size))]) for group in groups
    }
    budgets = [Budget(what, share) for what, share in asked.items()]  # type: ignore[arg-type]
    choice = choose(groups, scores, budgets, Rules("global", 2, 0.1), analysis, lambda: model, None, curves)
    gone = {group.id: group.size - len(choice.cuts.get(group.id, range(group.size))) for group in groups}
    assert not choice.missed and all(
        budget.over(model, Kept(analysis, choice.cuts)) >= 0 for budget in budgets
    )
    least = np.inf
    for some in product(*(range(0, group.size - max(1, -(-group.size // 10)) + 1, 2) for group in groups)):
        cuts = {group.id: tuple(range(count, group.size)) for group, count in zip(groups, some, strict=True)}
        if all(budget.over(model, Kept(analysis, cuts)) >= 0 for budget in budgets):
            least = min(least, sum(curves[g.id][count] for g, count in zip(groups, some, strict=True)))
    assert sum(curves[name][count] for name, count in gone.items()) <= least * 1.01
