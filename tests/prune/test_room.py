"""What a ratio still allows, against every step that there is; and the step that is named where none fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.axes.groups import Group
from graphprune.prune.finer import SLACK, Landing, Room, Steps, cost_room, fill, room
from graphprune.prune.select import Ladder

Cuts = dict[str, tuple[int, ...]]
COSTS = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def stairs(number: int, *removed: int) -> Ladder:
    """Units that go in order, in steps that end at these counts."""
    return Ladder(number, np.arange(16), np.array(removed, np.int64), np.arange(len(removed)) * 1.0)


def steps_of(*ladders: Ladder, align: int | str = 4) -> Steps:
    groups = [Group(f"g{each.group}", np.arange(16), (), None) for each in ladders]
    return Steps(groups, {group.id: np.ones(16) for group in groups}, ladders, align, 0.0)


def counted(costs: list[int]) -> Callable[[Cuts], int]:
    """What is left of Groups of 16 Units that count so much each, and 100 that always stays."""
    return lambda cuts: 100 + sum(c * len(cuts.get(f"g{n}", range(16))) for n, c in enumerate(costs))


@settings(max_examples=100, deadline=None)
@given(COSTS, st.integers(0, 20), st.lists(st.sampled_from([0, 4, 8, 12]), min_size=3, max_size=3))
def test_the_most_that_a_share_of_the_cost_lets_go_is_the_last_step_that_it_holds(
    costs: list[int], twentieths: int, before: list[int]
) -> None:
    steps = steps_of(*(stairs(n, 4, 8, 12, 15) for n in range(len(costs))))
    gone = {n: before[n] for n in range(len(costs)) if before[n]}
    allowed = cost_room(steps, counted(costs), twentieths / 20)
    for number, each in enumerate(steps.own):
        rest = twentieths * 16 * sum(costs) - 20 * sum(costs[n] * g for n, g in gone.items() if n != number)
        fits = [k for k in (4, 8, 12, 15) if k > gone.get(number, 0) and 20 * costs[number] * k <= rest]
        assert allowed.largest(each, gone) == (max(fits) if fits else None)


def test_a_share_of_the_cost_is_of_what_all_units_cost_not_of_the_model() -> None:
    """32 Units of one and 32 of three are 64, whatever else the model holds."""
    allowed = cost_room(steps_of(stairs(0, 4, 8), stairs(1, 4, 8)), counted([1, 3]), 0.25)
    assert (allowed.most, allowed.units) == (164, 64)
    assert allowed.gap({}) == pytest.approx(0.25) and allowed.gap({0: 4, 1: 4}) == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 32), st.sampled_from([0, 4, 8]), st.sampled_from([0, 4, 8]))
def test_the_most_that_a_ratio_lets_go_is_the_last_step_within_what_the_others_left(
    allowed: int, mine: int, other: int
) -> None:
    pool = Room({0: "all", 1: "all"}, {"all": allowed}, 32)
    gone = {n: g for n, g in ((0, mine), (1, other)) if g}
    fits = [k for k in (4, 8, 12) if mine < k <= allowed - other]
    assert pool.largest(stairs(0, 4, 8, 12), gone) == (max(fits) if fits else None)
    assert pool.gap(gone) == max(0, allowed - mine - other) / 32


@pytest.mark.parametrize("scope", ["global", "local"])
def test_units_that_a_ratio_allows_are_rounded_down_but_not_below_a_whole_number(scope: str) -> None:
    groups = [Group(f"g{n}", np.arange(size), (), None) for n, size in enumerate((100, 15))]
    for ratio, of_first, of_all in (
        (0.29, 29, 33),
        (0.57, 57, 65),
        (0.299, 29, 34),
        (0.0, 0, 0),
        (1.0, 100, 115),
    ):
        found = room(groups, [0, 1], ratio, scope)
        assert found.allowed[found.pool[0]] == (of_all if scope == "global" else of_first)
        assert found.units == 115


def test_the_smallest_step_that_is_too_wide_is_named_whichever_group_has_it() -> None:
    """Six more of 48 may go: the next step of g0 is twelve, that of g1 eight; g2 has none."""
    steps = steps_of(stairs(0, 12), stairs(1, 4, 12), stairs(2))
    landed = fill(steps, room(steps.groups, [0, 1, 2], 10 / 48, "global"), {1: 4})
    assert (landed.gone, landed.met) == ({1: 4}, False)
    assert landed.forced == "group 'g1' from 12 to 4 units"


def test_where_no_group_has_a_step_left_none_is_named() -> None:
    steps = steps_of(stairs(0, 4), stairs(1))
    landed = fill(steps, room(steps.groups, [0, 1], 0.5, "global"), {0: 4})
    assert (landed.gone, landed.met, landed.forced) == ({0: 4}, False, "")


@pytest.mark.parametrize(("allowed", "gone"), [(3, {}), (4, {0: 2})])
def test_what_is_left_within_the_slack_needs_no_more_steps(allowed: int, gone: dict[int, int]) -> None:
    """Exactly the slack is still near, though there is a step that fits."""
    assert SLACK == 0.03
    steps = steps_of(stairs(0, 2))
    landed = fill(steps, Room({0: 0}, {0: allowed}, 100), {})
    assert landed.gone == gone and landed.met
    assert fill(steps_of(stairs(0, 5)), Room({0: 0}, {0: allowed}, 100), {}).met == (allowed == 3)


def test_one_step_that_is_enough_comes_before_a_wider_one_that_is_not_and_the_least_salient_of_these() -> (
    None
):
    cheap = Ladder(1, np.arange(16), np.array([8]), np.array([1.0]))
    dear = Ladder(0, np.arange(16), np.array([8]), np.array([2.0]))
    steps = steps_of(dear, cheap)
    assert fill(steps, room(steps.groups, [0, 1], 0.25, "global"), {}).gone == {1: 8}


def test_of_cuts_as_near_a_budget_the_one_that_loses_least_is_taken() -> None:
    """Both Groups step by eight Units: those of g1 are worth five in all, those of g0 eight."""
    groups = [Group(f"g{n}", np.arange(16), (), None) for n in range(2)]
    scores = {"g0": np.repeat([1.0, 0.125], 8), "g1": np.repeat([0.625, 1.0], 8)}
    own = [Ladder(n, np.arange(16), np.array([8]), np.array([1.0])) for n in range(2)]
    left = counted([1, 1])
    landing = Landing(
        Steps(groups, scores, own, 8, 0.0), lambda cuts: (left({}) - 4 - left(cuts)) / (left({}) - 100)
    )
    assert landing.land({}, None).gone == {1: 8}
