"""Where a step would leave a budget far behind: other Groups, then steps of 8 and 4, else the step's name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprune
from graphprune.axes.groups import Group
from graphprune.errors import PromiseError
from graphprune.prune.finer import SLACK, Landed, Landing, Steps
from graphprune.prune.select import Ladder, alignment, ladder

from .widths import convs, deep, plan_of, widths


def left(model: object, passes: str, what: str) -> float:
    report = graphprune.compile(model, passes).report  # type: ignore[arg-type]
    return float(getattr(report.after, what) / getattr(report.before, what))


@pytest.mark.parametrize("share", [0.8, 0.6, 0.45])
@pytest.mark.parametrize("what", ["params", "macs"])
def test_wide_steps_do_not_leave_a_budget_far_behind(what: str, share: float) -> None:
    """Steps of 16 in widths of 32 are a half of both layers: 0.52 is left where 0.8 was asked for."""
    assert left(convs(32, 32), f"prune({what}={share}, align=16)", what) < share - SLACK
    assert share - SLACK <= left(convs(32, 32), f"prune({what}={share})", what) <= share


def test_finer_steps_go_beyond_the_end_of_wide_ones() -> None:
    """16 of 32 channels are the least at steps of 16."""
    assert 0.12 <= left(convs(32, 32), "prune(params=0.15)", "params") <= 0.15


def test_an_alignment_that_was_asked_for_is_kept_and_its_step_is_named() -> None:
    result = graphprune.compile(convs(32, 32), "prune(params=0.8, align=16)")
    assert all(count % 16 == 0 for count in widths(result.plans[0]).values())
    assert any("no smaller step than group 'w" in line for line in result.report.warnings)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3])
def test_a_convolution_never_ends_at_an_odd_width(share: float) -> None:
    for count in widths(plan_of(convs(32, 64), f"prune(params={share})")).values():
        assert count % 4 == 0


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
def test_a_ratio_is_not_left_far_short(ratio: float, scope: str) -> None:
    """All may end at multiples of 4; where Groups do not compete, each of them stops before its own ratio."""
    kept = widths(plan_of(convs(32, 64), f"prune(ratio={ratio}, scope={scope})"))
    gone = {name: width - kept.get(name, width) for name, width in {"w1:0": 32, "w2:0": 64}.items()}
    if scope == "global":
        assert max(SLACK * 96, 4) > ratio * 96 - sum(gone.values()) >= 0
    else:
        assert gone == {"w1:0": int(ratio * 32) // 4 * 4, "w2:0": int(ratio * 64) // 4 * 4}


@pytest.mark.parametrize("ratio", [0.7, 0.9])
def test_a_ratio_that_no_step_reaches_names_the_step(ratio: float) -> None:
    """Of 8 channels 4 may go, and no convolution keeps 2."""
    report = graphprune.compile(convs(8, 8), f"prune(ratio={ratio})").report
    assert any(f"ratio={ratio:g} removes 0.500 of the Units" in line for line in report.warnings)


def test_a_ratio_that_is_met_says_nothing() -> None:
    assert not graphprune.compile(deep(), "prune(ratio=0.5)").report.warnings


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(8, 48), st.integers(1, 50)), min_size=1, max_size=3),
    st.floats(0.15, 0.95),
    st.integers(0, 5),
)
def test_a_landing_meets_the_budget_and_no_single_step_is_nearer(
    layers: list[tuple[int, int]], share: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    groups = [
        Group(f"g{n}", np.arange(size), (), None, convolutional=True) for n, (size, _) in enumerate(layers)
    ]
    scores = {group.id: draw.random(group.size) for group in groups}
    own = [
        ladder(n, group, scores[group.id], alignment(group, "auto"), 0.1) for n, group in enumerate(groups)
    ]

    def count(cuts: dict[str, tuple[int, ...]]) -> int:
        kept = [len(cuts.get(group.id, range(group.size))) for group in groups]
        return sum(units * cost for units, (_, cost) in zip(kept, layers, strict=True))

    dense = count({})
    steps = Steps(groups, scores, own, "auto", 0.1)
    target = int(share * dense)
    landing = Landing(steps, lambda cuts: (target - count(cuts)) / dense)
    ends = {s.group: int(s.removed[-1]) for s in own if s.removed.size}
    before, after = dict[int, int](), None
    for number, gone in ends.items():
        if count(steps.cuts(before | {number: gone})) <= target:
            after = before | {number: gone}
            break
        before = before | {number: gone}
    landed = landing.land(before, after)
    over = (target - count(steps.cuts(landed.gone))) / dense
    assert landed.met == (over >= 0)
    if landed.met and over > SLACK:
        assert landed.forced
    if after is None or over <= SLACK:
        return
    for ladders in steps.levels():
        for each in ladders:
            for removed in each.removed[each.removed > before.get(each.group, 0)].tolist():
                other = (target - count(steps.cuts(before | {each.group: removed}))) / dense
                assert other < 0 or other >= over - 1e-9


def test_the_least_that_can_stay_is_never_more_than_the_model() -> None:
    """One Unit of w1 is 46 parameters; the biases that make up for it are 56."""
    samples = {"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
    text = "prune(params=0.5, only=[w1*], min-keep=0.95, repair=bias)"
    with pytest.raises(PromiseError, match=r"at least 1\.000 of the params stay"):
        graphprune.compile(deep(), text, calibration=samples)


def test_where_no_group_alone_ends_near_a_budget_two_together_do() -> None:
    """A Unit of g0 counts five, one of g1 three: 64 are 8 of each, and at least 8 too many of either."""
    alone = landing(256 - 64, (1.0, 2.0), (1.0, 2.0, 3.0), each=(5, 3))
    assert alone.land({}, None) == Landed({0: 8, 1: 8})


def landing(target: int, *scores: tuple[float, ...], each: tuple[int, ...] = (1, 1)) -> Landing:
    """Groups of 32 Units that go eight by eight at these scores; what is left is what each of them counts."""
    groups = [Group(f"g{n}", np.arange(32), (), None) for n in range(len(scores))]
    own = [
        Ladder(n, np.arange(32), np.arange(8, 8 * len(steps) + 1, 8), np.array(steps))
        for n, steps in enumerate(scores)
    ]

    def left(cuts: dict[str, tuple[int, ...]]) -> int:
        kept = [len(cuts.get(group.id, range(32))) for group in groups]
        return sum(count * size for count, size in zip(kept, each, strict=False))

    each_unit = {
        group.id: np.resize(np.repeat(own, 8), 32) for group, own in zip(groups, scores, strict=True)
    }
    steps = Steps(groups, each_unit, own, 8, 0.0)  # type: ignore[arg-type]
    return Landing(steps, lambda cuts: (target - left(cuts)) / left({}))


def test_no_live_channel_goes_so_that_a_budget_is_left_less_far_behind() -> None:
    """Half of the channels of the shipped model are dead; a wide step of them goes beyond the budget."""
    (plan,) = graphprune.compile("models/digits_cnn/model.onnx", "prune(macs=0.6)", bench=False).plans
    gone = [np.delete(plan.scores[name], kept) for name, kept in plan.cuts.items()]
    assert max(scores.max(initial=0.0) for scores in gone) < 0.01 * max(map(max, plan.scores.values()))


def test_a_cut_that_meets_its_budget_goes_no_further() -> None:
    assert landing(24, (1.0, 2.0, 3.0)).land({0: 8}, None) == Landed({0: 8})


def test_a_default_step_that_meets_the_budget_is_taken_though_another_group_has_a_cheaper_one() -> None:
    assert landing(56, (5.0,), (1.0,)).land({}, {0: 8}) == Landed({0: 8})


def test_of_groups_that_step_at_once_the_one_whose_own_step_costs_least_goes_first() -> None:
    """Down to 40 one of them is enough: the second step of g1 costs 3, that of g0 costs 9."""
    assert landing(40, (1.0, 9.0), (2.0, 3.0)).land({0: 8, 1: 8}, {0: 16, 1: 16}) == Landed({0: 8, 1: 16})


def test_no_group_is_emptied_so_that_a_budget_is_met_to_the_digit() -> None:
    """190 of 1460 are to go: 16 of A's 32 are 480, so 4 of A and 16 of B, rather than 40 of B alone."""
    groups = [
        Group("a", np.arange(32), (), None, convolutional=True),
        Group("b", np.arange(100), (), None, convolutional=True),
    ]
    scores = {group.id: np.ones(group.size) for group in groups}
    own = [
        ladder(n, group, scores[group.id], alignment(group, "auto"), 0.1) for n, group in enumerate(groups)
    ]

    def count(cuts: dict[str, tuple[int, ...]]) -> int:
        return 30 * len(cuts.get("a", range(32))) + 5 * len(cuts.get("b", range(100)))

    landed = Landing(Steps(groups, scores, own, "auto", 0.1), lambda cuts: (1270 - count(cuts)) / 1460).land(
        {}, {0: 16}
    )
    assert landed.gone == {0: 4, 1: 16}
