"""What a budget is a share of, in one step and in parts, and what a ratio counts."""

from __future__ import annotations

import pytest

from graphprune.prune.choose import Budget, Rules
from graphprune.prune.select import Scope


@pytest.mark.parametrize("what", ["params", "macs"])
@pytest.mark.parametrize("whole", [None, 800, 400])
def test_parts_of_a_budget_go_from_the_model_at_hand_to_its_end(what: str, whole: int | None) -> None:
    """400 are at hand; half of the whole may stay, and half-way there half of what is to go is gone."""
    budget = Budget(what, 0.5, whole)  # type: ignore[arg-type]
    end = budget.target(400)
    assert end == (400 if whole == 800 else 200)
    assert [budget.part(done, 400).target(400) for done in (0.0, 0.5, 1.0)] == [400, (400 + end) // 2, end]


def test_parts_of_a_ratio_are_parts_of_what_goes() -> None:
    assert [Budget("ratio", 0.6).part(done, 9).share for done in (0.0, 0.5, 1.0)] == [0.0, 0.3, 0.6]


@pytest.mark.parametrize(
    ("share", "dense", "left"), [(0.5, 7, 3), (0.5, 8, 4), (0.999, 1000, 999), (1.0, 7, 7)]
)
def test_what_may_be_left_is_rounded_down(share: float, dense: int, left: int) -> None:
    assert Budget("params", share).target(dense) == left


@pytest.mark.parametrize(("scope", "counts"), [("global", "macs"), ("local", "unit"), ("isomorphic", "unit")])
def test_a_ratio_counts_a_cost_only_where_all_units_compete(scope: Scope, counts: str) -> None:
    assert Rules(scope, 1, 0.0, counted="macs").counts == counts
    assert Rules(scope, 1, 0.0).counts == "unit"
