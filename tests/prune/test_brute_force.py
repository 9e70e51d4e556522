"""Choices against all others that were possible, on Groups small enough to try them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprune
from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.groups import Group
from graphprune.axes.kept import Kept
from graphprune.pipeline.decision import Decision
from graphprune.prune.choose import Budget, Rules, choose
from graphprune.prune.repair import Repaired
from graphprune.prune.select import Scope, in_order, ladder, take_ratio

from .widths import convs, deep, plan_of, widths

Cuts = Mapping[str, tuple[int, ...]]
SCORES = st.lists(st.integers(0, 20), min_size=1, max_size=5)


def grouped(scores: Sequence[Sequence[int]], blocks: int = 1) -> list[Group]:
    """Groups without weights, of equal blocks."""
    return [
        Group(f"g{n}", np.arange(len(s)), (), None, block=np.arange(len(s)) % blocks if blocks > 1 else None)
        for n, s in enumerate(scores)
    ]


def removals(size: int, least: int) -> Iterator[tuple[int, ...]]:
    """Every set of Units that may go where at least so many stay."""
    for count in range(size - least + 1):
        yield from combinations(range(size), count)


def lost(scores: Sequence[Sequence[int]], kept: Cuts) -> int:
    """The saliency that went."""
    return sum(sum(s) - sum(s[u] for u in kept.get(f"g{n}", range(len(s)))) for n, s in enumerate(scores))


def gone(scores: Sequence[Sequence[int]], kept: Cuts) -> int:
    """How many Units went."""
    return sum(len(s) - len(kept.get(f"g{n}", range(len(s)))) for n, s in enumerate(scores))


@settings(max_examples=60, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=3), st.floats(0, 1), st.sampled_from([0.0, 0.3, 0.5, 0.8]))
def test_a_ratio_takes_as_much_as_it_may_and_no_other_choice_loses_less(
    scores: list[list[int]], ratio: float, min_keep: float
) -> None:
    groups = grouped(scores)
    steps = [
        ladder(n, group, np.array(s, float), 1, min_keep)
        for n, (group, s) in enumerate(zip(groups, scores, strict=True))
    ]
    order = in_order(steps, groups, "global")
    kept = order.kept(take_ratio(order, groups, ratio, "global"), groups)
    floors = [max(1, ceil(min_keep * len(s))) for s in scores]
    every = [list(removals(len(s), floor)) for s, floor in zip(scores, floors, strict=True)]
    allowed = int(ratio * sum(map(len, scores)) + 1e-9)
    most = min(allowed, sum(len(s) - floor for s, floor in zip(scores, floors, strict=True)))
    assert gone(scores, kept) == most
    others = (
        sum(s[u] for s, units in zip(scores, choice, strict=True) for u in units)
        for choice in product(*every)
        if sum(map(len, choice)) == most
    )
    assert lost(scores, kept) == min(others)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=8).filter(lambda s: len(s) % 2 == 0), st.data())
def test_blocks_lose_their_own_least_units(scores: list[int], data: st.DataObject) -> None:
    (group,) = grouped([scores], blocks=2)
    steps = ladder(0, group, np.array(scores, float), 1, 0.0)
    count = data.draw(st.integers(1, len(steps.removed)))
    order = in_order([steps], [group], "local")
    kept = order.kept(count, [group])["g0"]
    for block in (0, 1):
        mine = sorted(scores[block::2])
        stays = sorted(scores[u] for u in kept if u % 2 == block)
        assert stays == mine[count:], "each block keeps its most salient Units"


@pytest.mark.parametrize(
    ("min_keep", "floors"), [(0.26, (6, 11, 4)), (0.51, (11, 21, 7)), (0.95, (19, 38, 12))]
)
def test_the_share_that_stays_is_rounded_up(min_keep: float, floors: tuple[int, int, int]) -> None:
    kept = widths(plan_of(deep(), f"prune(ratio=0.99, scope=local, min-keep={min_keep})"))
    sizes = {"w1:1": 20, "w2:1": 40, "w3:1": 12}
    assert tuple(kept.get(name, size) for name, size in sizes.items()) == floors


@pytest.mark.parametrize("what", ["params", "macs"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_a_budget_is_met_and_by_no_more_than_whole_steps_would(what: str, scope: Scope) -> None:
    """Targets on a step, and half a parameter beside it: what may be left never rounds up to the next one."""
    analysis = analyse(convs(8, 12))
    groups = analysis.prunable
    draw = np.random.default_rng(2)
    scores = {group.id: draw.permutation(group.size) + 1.0 for group in groups}
    cost = CostModel(analysis, {})
    dense = cost.dense_params if what == "params" else cost.dense_macs
    count = cost.params if what == "params" else cost.macs
    ladders = [ladder(n, group, scores[group.id], 1, 0.1) for n, group in enumerate(groups)]
    order = in_order(ladders, groups, scope)
    reached = [count(Kept(analysis, order.kept(steps, groups))) for steps in range(len(order) + 1)]
    for target in [size - half for size in reached[1:-1] for half in (0, 0.5, -0.5)]:
        share = np.nextafter(target / dense, 1)
        first = next(size for size in reached if size <= share * dense)
        rules = Rules(scope, 1, 0.1)
        found = choose(groups, scores, [Budget(what, share)], rules, analysis, lambda: cost)  # type: ignore[arg-type]
        assert not found.missed and first <= count(Kept(analysis, found.cuts)) <= share * dense


@pytest.mark.parametrize(
    ("budget", "after"),
    [("ratio=0.6", [0.8, 0.6, 0.4]), ("params=0.4", [0.8, 0.6, 0.4]), ("macs=0.7", [0.9, 0.8, 0.7])],
)
def test_rounds_go_the_same_way_in_equal_parts(
    budget: str, after: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of what is to go goes in each of three rounds, whatever the budget counts."""
    seen: list[Cuts] = []
    inner = Decision._repaired

    def repaired(self: Decision, cuts: dict[str, tuple[int, ...]]) -> Repaired:
        seen.append(cuts)
        return inner(self, cuts)

    monkeypatch.setattr(Decision, "_repaired", repaired)
    model = deep()
    feed = {"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
    graphprune.compile(model, f"obspa({budget}, rounds=3, align=1, min-keep=0)", calibration=feed)
    analysis = analyse(model)
    cost = CostModel(analysis, {})

    def left(cuts: Cuts) -> float:
        what = budget.partition("=")[0]
        if what == "ratio":
            units = sum(group.size for group in analysis.prunable)
            return sum(len(cuts.get(g.id, range(g.size))) for g in analysis.prunable) / units
        kept = Kept(analysis, cuts)
        if what == "params":
            return cost.params(kept) / cost.dense_params
        return cost.macs(kept) / cost.dense_macs

    np.testing.assert_allclose([left(cuts) for cuts in seen], after, atol=0.05)
