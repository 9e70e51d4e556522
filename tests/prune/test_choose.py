"""What a budget is a share of, in one step and in parts, and what a ratio counts."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.prune.choose import Budget, Choice, Rules, choose
from graphprune.prune.select import Scope

from .widths import deep


@pytest.mark.parametrize("what", ["params", "macs"])
@pytest.mark.parametrize("whole", [None, 800, 400])
def test_parts_of_a_budget_go_from_the_model_at_hand_to_its_end(what: str, whole: int | None) -> None:
    """400 are at hand; half of the whole may stay, and half-way there half of what is to go is gone."""
    budget = Budget(what, 0.5, whole)  # type: ignore[arg-type]
    end = budget.target(400)
    assert end == (400 if whole == 800 else 200)
    assert [budget.part(done, 400).target(400) for done in (0.0, 0.5, 1.0)] == [400, (400 + end) // 2, end]


def test_parts_of_a_ratio_are_parts_of_what_goes() -> None:
    assert [Budget("ratio", 0.6).part(done, 9).asked for done in (0.0, 0.5, 1.0)] == [0.0, 0.3, 0.6]


@pytest.mark.parametrize(
    ("share", "dense", "left"), [(0.5, 7, 3), (0.5, 8, 4), (0.999, 1000, 999), (1.0, 7, 7)]
)
def test_what_may_be_left_is_rounded_down(share: float, dense: int, left: int) -> None:
    assert Budget("params", share).target(dense) == left


@pytest.mark.parametrize(("scope", "counts"), [("global", "macs"), ("local", "unit"), ("isomorphic", "unit")])
def test_a_ratio_counts_a_cost_only_where_all_units_compete(scope: Scope, counts: str) -> None:
    assert Rules(scope, 1, 0.0, counted="macs").counts == counts
    assert Rules(scope, 1, 0.0).counts == "unit"


ANALYSIS = analyse(deep())
GROUPS = ANALYSIS.prunable
SIZES = {group.id: group.size for group in GROUPS}
SCORES = {group.id: np.random.default_rng(n).permutation(group.size) + 1.0 for n, group in enumerate(GROUPS)}
COST = CostModel(ANALYSIS, {})


def kept(choice: Choice) -> dict[str, int]:
    return {name: len(choice.cuts.get(name, range(size))) for name, size in SIZES.items()}


def decided(budget: Budget, rules: Rules, shares: object = None) -> Choice:
    return choose(GROUPS, SCORES, [budget], rules, ANALYSIS, lambda: COST, shares)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [Budget("ratio", 0.3), Budget("params", 0.6), Budget("macs", 0.6)])
@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_group_with_a_ratio_of_its_own_gives_that_and_the_others_the_rest(
    budget: Budget, scope: Scope, shared: bool
) -> None:
    """Whether scores or a method say how much each of the others gives."""
    shares = (lambda share: {"w2:1": share, "w3:1": share / 2}) if shared else None
    found = decided(budget, Rules(scope, 1, 0.0, own={"w1:1": 0.25}), shares)
    assert kept(found)["w1:1"] == 15 and not found.missed
    for name, units in found.cuts.items():
        worst = sorted(SCORES[name])[: SIZES[name] - len(units)]
        assert sorted(SCORES[name][list(units)]) == sorted(set(SCORES[name]) - set(worst)), (
            "the least salient go"
        )
    if budget.what == "ratio" and shared:
        assert kept(found) == {"w1:1": 15, "w2:1": 28, "w3:1": 11}
    elif budget.what == "ratio":
        gone = SIZES["w2:1"] + SIZES["w3:1"] - kept(found)["w2:1"] - kept(found)["w3:1"]
        assert 52 * 0.3 - 2 < gone <= 52 * 0.3
    else:
        count = COST.params if budget.what == "params" else COST.macs
        dense = COST.dense_params if budget.what == "params" else COST.dense_macs
        assert count(Kept(ANALYSIS, found.cuts)) <= 0.6 * dense
        assert budget.over(COST, Kept(ANALYSIS, found.cuts)) >= 0


def test_a_budget_out_of_reach_says_the_least_that_is_left() -> None:
    """Of the model at hand, or of the whole one that it is a share of."""
    floors = {name: tuple(range(-(-size // 2))) for name, size in SIZES.items()}
    for what, count, dense in (
        ("params", COST.params, COST.dense_params),
        ("macs", COST.macs, COST.dense_macs),
    ):
        for whole in (None, 4 * dense):
            found = decided(Budget(what, 0.01, whole), Rules("global", 1, 0.5))  # type: ignore[arg-type]
            assert kept(found) == {name: len(units) for name, units in floors.items()}
            assert [*found.missed.values()] == pytest.approx(
                [count(Kept(ANALYSIS, floors)) / (whole or dense)]
            )


def test_what_repair_adds_counts_where_parameters_do() -> None:
    """Exactly as many as a budget leaves are too many with one more."""
    rules = Rules("global", 1, 0.0)
    first = decided(Budget("params", 0.5), rules)
    size = COST.params(Kept(ANALYSIS, first.cuts))
    exact = Budget("params", float(np.nextafter(size / COST.dense_params, 1)))
    assert COST.params(Kept(ANALYSIS, decided(exact, rules).cuts)) == size
    more = decided(exact, Rules("global", 1, 0.0, added=lambda kept: 1))
    assert COST.params(Kept(ANALYSIS, more.cuts)) < size
    macs = Budget("macs", 0.5)
    assert decided(macs, Rules("global", 1, 0.0, added=lambda kept: 10**9)).cuts == decided(macs, rules).cuts
    assert exact.over(COST, Kept(ANALYSIS, first.cuts), 1) < 0 <= exact.over(COST, Kept(ANALYSIS, first.cuts))
