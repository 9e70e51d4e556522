"""Ratios, alignment, balance and budgets: what is kept is what was promised."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprune
from graphprune.axes import analyse
from graphprune.axes.groups import Group
from graphprune.errors import PromiseError
from graphprune.prune.select import Auto, Scope, alignment, in_order, ladder, take_ratio

from .widths import convs, deep, grouped, params, plan_of, widths


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.5, 0.66, 0.9])
def test_local_keeps_n_minus_the_floor_of_ratio_times_n(ratio: float) -> None:
    kept = widths(plan_of(deep(), f"prune(ratio={ratio}, scope=local, min-keep=0)"))
    for name, n in {"w1:1": 20, "w2:1": 40, "w3:1": 12}.items():
        assert kept.get(name, n) == n - int(ratio * n + 1e-9)


def test_global_removes_that_share_of_all_units() -> None:
    kept = widths(plan_of(deep(), "prune(ratio=0.4)"))
    assert sum({"w1:1": 20, "w2:1": 40, "w3:1": 12}[name] - count for name, count in kept.items()) == int(
        0.4 * 72
    )


def test_isomorphic_removes_the_share_of_every_class() -> None:
    from graphprune.prune.select import isomorphic_key
    from tests.axes.claims import sketch

    from .widths import DEEP

    found = sketch(DEEP, w1=(6, 20), w2=(20, 40), w3=(40, 12), w4=(12, 4))
    classes = {isomorphic_key(group) for group in found.prunable}
    kept = widths(plan_of(deep(), "prune(ratio=0.4, scope=isomorphic)"))
    assert len(classes) == 1
    assert sum({"w1:1": 20, "w2:1": 40, "w3:1": 12}[name] - count for name, count in kept.items()) == int(
        0.4 * 72
    )


def test_isomorphic_treats_kernel_sizes_apart() -> None:
    """Each class loses its share, where a global order would take all from the weaker class."""
    from tests.axes.claims import sketch

    draw = np.random.default_rng(0)
    weights = {
        "w1": draw.standard_normal((20, 3, 1, 1)),
        "w2": draw.standard_normal((20, 20, 3, 3)),
        "w3": draw.standard_normal((4, 20, 5, 5)),
    }
    body = (
        "(float[n,3,9,9] x) => (float[n,4,3,3] y) { a = Conv(x, w1)\n b = Relu(a)\n"
        " c = Conv(b, w2)\n d = Relu(c)\n y = Conv(d, w3) }"
    )
    model = sketch(body, **{name: array.astype(np.float32) for name, array in weights.items()}).model
    assert widths(plan_of(model, "prune(ratio=0.5, scope=isomorphic, align=1)")) == {"w1:0": 10, "w2:0": 10}


@pytest.mark.parametrize(
    ("width", "ratio", "kept"),
    [(32, 0.5, 16), (32, 0.3, 32), (64, 0.3, 48), (24, 0.5, 16), (12, 0.5, 8), (40, 0.5, 32)],
)
def test_automatic_alignment_rounds_kept_channels_up(width: int, ratio: float, kept: int) -> None:
    """Steps of 16 from 32 channels on, of 8 from 16, else of 4; widths between two steps round up."""
    group = analyse(convs(width, 64)).group("w1:0")
    steps = ladder(0, group, np.arange(width, dtype=np.float64), alignment(group, "auto"), 0.1)
    order = in_order([steps], [group], "local")
    found = order.kept(take_ratio(order, [group], ratio, "local"), [group])
    assert len(found.get("w1:0", range(width))) == kept


@pytest.mark.parametrize("align", [1, 3, 8])
def test_kept_widths_are_multiples_of_the_alignment(align: int) -> None:
    for count in widths(plan_of(convs(24, 48), f"prune(ratio=0.6, align={align})")).values():
        assert count % align == 0


def test_widths_of_matrices_are_not_aligned() -> None:
    assert widths(plan_of(deep(), "prune(ratio=0.25, scope=local)"))["w2:1"] == 30


def test_a_tenth_of_every_group_stays() -> None:
    kept = widths(plan_of(deep(), "prune(params=0.07)"))
    assert all(kept[name] >= np.ceil(0.1 * n) for name, n in {"w1:1": 20, "w2:1": 40, "w3:1": 12}.items())


def test_min_keep_is_kept() -> None:
    kept = widths(plan_of(deep(), "prune(ratio=0.9, scope=local, min-keep=0.5)"))
    assert kept == {"w1:1": 10, "w2:1": 20, "w3:1": 6}


@pytest.mark.parametrize(("share", "count"), [(0.28, 28), (0.55, 55), (0.281, 29), (0.0, 1), (1.0, 100)])
def test_a_share_that_stays_is_rounded_up_but_not_above_a_whole_number(share: float, count: int) -> None:
    """In binary, 0.28 * 100 is a little more than 28."""
    group = Group("g", np.arange(100), (), None)
    removed = ladder(0, group, np.arange(100.0), 1, share).removed
    assert 100 - max(removed, default=0) == count


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
def test_a_ratio_is_rounded_down_but_not_below_a_whole_number(scope: Scope) -> None:
    """In binary, 1 - 0.9 is a little less than a tenth."""
    group = Group("g", np.arange(10), (), None)
    order = in_order([ladder(0, group, np.arange(10.0), 1, 0.0)], [group], scope)
    taken = [take_ratio(order, [group], ratio, scope) for ratio in (1 - 0.9, 0.19, 0.2, 0.7, 1.0)]
    assert taken == [1, 1, 2, 7, 9]


@pytest.mark.parametrize(("per", "multiple"), [(1, 12), (2, 6), (3, 4), (8, 3), (12, 1), (24, 1)])
def test_units_of_several_channels_are_aligned_by_their_channels(per: int, multiple: int) -> None:
    """The least number of Units whose channels are a multiple of twelve."""
    assert min(n for n in range(1, 13) if n * per % 12 == 0) == multiple
    node = ir.node("Conv", [ir.val("x"), ir.val("w")])
    touched = SimpleNamespace(count=10 * per, use=SimpleNamespace(node=node))
    group = Group("g", np.arange(10), (touched,), None, convolutional=True)  # type: ignore[arg-type]
    assert alignment(group, 12) == multiple


@pytest.mark.parametrize(("width", "wanted"), [(15, 4), (16, 8), (31, 8), (32, 16)])
def test_automatic_alignment_is_wider_from_16_and_from_32_channels_on(width: int, wanted: int) -> None:
    assert alignment(Group("g", np.arange(width), (), None, convolutional=True), "auto") == wanted
    assert alignment(Group("g", np.arange(width), (), None), "auto") == 1


@pytest.mark.parametrize(
    ("step", "widths"),
    [(16, {15: 4, 16: 8, 32: 16}), (8, {7: 4, 8: 4, 16: 8, 64: 8}), (32, {64: 32, 40: 16}), (1, {64: 1})],
)
def test_automatic_alignment_follows_the_step_of_a_device(step: int, widths: dict[int, int]) -> None:
    assert {width: Auto(step).of(width) for width in widths} == widths


@pytest.mark.parametrize(
    ("size", "owned", "multiple"),
    [(8, (4,), 4), (8, (2,), 4), (7, (2,), 2), (8, (3, 2), 4), (32, (1, 4), 16)],
)
def test_a_width_is_all_channels_of_the_convolution_where_units_own_least(
    size: int, owned: tuple[int, ...], multiple: int
) -> None:
    """Steps of 16 channels from 32 on, of 8 from 16 and of 4 below, in Units; other operators say nothing."""
    slices = [(per, "Conv") for per in owned] + [(16, "MatMul")]
    touched = [
        SimpleNamespace(count=size * per, use=SimpleNamespace(node=ir.node(op, [ir.val("x"), ir.val("w")])))
        for per, op in slices
    ]
    group = Group("g", np.arange(size), tuple(touched), None, convolutional=True)  # type: ignore[arg-type]
    assert alignment(group, "auto") == multiple


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
def test_groups_that_can_lose_nothing_have_no_steps(scope: Scope) -> None:
    groups = [Group("g", np.arange(1), (), None), Group("h", np.arange(4), (), None, floor=4)]
    order = in_order([ladder(n, g, np.ones(g.size), 1, 0.0) for n, g in enumerate(groups)], groups, scope)
    assert len(order) == 0 and order.gone(0) == {} and order.kept(0, groups) == {} and not len(order.taken)
    assert take_ratio(order, groups, 0.9, scope) == 0


def test_steps_are_ordered_by_the_mean_of_what_goes_and_never_fall() -> None:
    """Two Units at a time: (1 + 2) / 2, (5 + 5) / 2 and (6 + 8) / 2; of two blocks, one of each."""
    scores = np.array([5.0, 1, 8, 6, 2, 5, 20, 21])
    plain = Group("g", np.arange(8), (), None)
    found = ladder(0, plain, scores, 2, 0.25)
    assert found.removed.tolist() == [2, 4, 6] and found.scores.tolist() == [1.5, 5.0, 7.0]
    assert found.order.tolist() == [1, 4, 0, 5, 3, 2, 6, 7]
    blocks = replace(plain, block=np.arange(8) % 2)
    found = ladder(0, blocks, scores, 1, 0.25)
    assert found.removed.tolist() == [2, 4, 6] and found.scores.tolist() == [1.5, 5.0, 7.0]
    assert {frozenset(found.order[at : at + 2].tolist()) for at in (0, 2, 4)} == {
        frozenset((4, 1)), frozenset((0, 5)), frozenset((2, 3)),
    }  # fmt: skip


@pytest.mark.parametrize("g", [2, 4, 8])
def test_blocks_of_grouped_convolutions_keep_equal_counts(g: int) -> None:
    plan = plan_of(grouped(g), "prune(ratio=0.5, align=1)")
    assert plan.cuts
    for name, kept in plan.cuts.items():
        size = plan.widths[name] // g
        assert len(set(np.bincount(np.array(kept) // size, minlength=g))) == 1, name


def test_one_unit_per_block_goes_the_least_salient_first() -> None:
    block = np.repeat([0, 1], 4)
    group = Group("g", np.arange(8), (), None, block=block)
    scores = np.array([4.0, 3, 2, 1, 8, 7, 6, 5])
    steps = ladder(0, group, scores, 1, 0.0)
    order = in_order([steps], [group], "local")
    assert order.kept(1, [group]) == {"g": (0, 1, 2, 4, 5, 6)}
    assert order.kept(3, [group]) == {"g": (0, 4)}


@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
@pytest.mark.parametrize("what", ["params", "macs"])
def test_a_budget_is_met_and_not_by_more_than_needed(what: str, share: float) -> None:
    for model in (deep(), convs(16, 32)):
        result = graphprune.compile(model, f"prune({what}={share}, align=1)")
        before, after = (getattr(size, what) for size in (result.report.before, result.report.after))
        assert after <= share * before
        assert after >= share * before - before * 0.15, "a smaller cut would have done"
    assert params(result.model) == result.report.after.params


def test_a_budget_that_cannot_be_met_is_an_error_that_says_what_is_possible() -> None:
    with pytest.raises(
        PromiseError, match=r"params=0.01 cannot be met: .* at least 0\.\d+ of the params stay"
    ) as caught:
        graphprune.compile(deep(), "prune(params=0.01)")
    assert caught.value.exit_code == 1 and "min-keep" in caught.value.hint


def test_a_missed_budget_can_be_allowed() -> None:
    result = graphprune.compile(deep(), "prune(params=0.01)", allow_short=True)
    assert result.report.warnings and result.report.after.params < result.report.before.params


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
def test_larger_ratios_keep_subsets(scope: str) -> None:
    plans = [plan_of(deep(), f"prune(ratio={ratio}, scope={scope})") for ratio in (0.2, 0.4, 0.6, 0.8)]
    for small, large in zip(plans[1:], plans[:-1], strict=True):
        assert set(large.cuts) <= set(small.cuts)
        for name, kept in large.cuts.items():
            assert set(small.cuts[name]) <= set(kept)


def test_equal_scores_are_broken_by_group_and_index() -> None:
    group = Group("g", np.arange(6), (), None)
    order = in_order([ladder(0, group, np.ones(6), 1, 0.0)], [group], "global")
    assert order.kept(2, [group]) == {"g": (2, 3, 4, 5)}


SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=2, max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(SCORES, min_size=1, max_size=4),
    st.floats(0, 0.99),
    st.sampled_from(["global", "local", "isomorphic"]),
    st.integers(1, 4),
)
def test_every_choice_is_legal_nested_and_within_the_ratio(
    scores: list[list[float]], ratio: float, scope: str, multiple: int
) -> None:
    groups = [Group(str(n), np.arange(len(each)), (), None) for n, each in enumerate(scores)]
    ladders = [ladder(n, g, np.array(scores[n]), multiple, 0.1) for n, g in enumerate(groups)]
    order = in_order(ladders, groups, scope)  # type: ignore[arg-type]
    count = take_ratio(order, groups, ratio, scope)  # type: ignore[arg-type]
    kept = order.kept(count, groups)
    total = sum(g.size for g in groups)
    assert (
        total - sum(len(kept.get(g.id, range(g.size))) for g in groups) <= ratio * total + 1e-9
        or scope == "local"
    )
    for group in groups:
        mine = kept.get(group.id, tuple(range(group.size)))
        assert len(mine) >= 1 and (len(mine) == group.size or len(mine) % multiple == 0)
        assert min(scores[int(group.id)][u] for u in mine) >= max(
            (scores[int(group.id)][u] for u in range(group.size) if u not in mine), default=0.0
        )
    for fewer in range(count):
        for name, units in order.kept(fewer, groups).items():
            assert set(kept[name]) <= set(units)
