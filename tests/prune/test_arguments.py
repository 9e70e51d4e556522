"""The arguments of prune: which Groups it may touch, and what it says when it cannot do what was asked."""

from __future__ import annotations

import pytest

import graphprune
from graphprune.errors import ArgumentError, PromiseError
from tests.axes.claims import sketch

from .widths import convs, deep, plan_of, widths


def test_ignore_leaves_groups_alone() -> None:
    assert set(plan_of(deep(), "prune(ratio=0.5, scope=local, ignore=[w2*])").cuts) == {"w3:1"}


def test_ignore_by_id_spares_the_readers() -> None:
    assert set(plan_of(deep(), 'prune(ratio=0.5, scope=local, ignore=["w2:1"])').cuts) == {"w1:1", "w3:1"}


def test_only_prunes_what_is_named() -> None:
    assert set(plan_of(deep(), 'prune(ratio=0.5, scope=local, only=["w[13]:1"])').cuts) == {"w1:1", "w3:1"}


def test_some_groups_can_have_ratios_of_their_own() -> None:
    kept = widths(plan_of(deep(), 'prune(ratio=0.5, scope=local, ratios={"w1:1": 0.2, "w3:*": 0.75})'))
    assert kept == {"w1:1": 16, "w2:1": 20, "w3:1": 3}


def test_a_ratio_of_zero_spares_a_group() -> None:
    assert "w1:1" not in plan_of(deep(), 'prune(ratio=0.5, scope=local, ratios={"w1:1": 0})').cuts


def test_own_ratios_do_not_count_for_the_global_one() -> None:
    kept = widths(plan_of(deep(), 'prune(ratio=0.5, ratios={"w2:1": 0.25})'))
    assert kept["w2:1"] == 30
    assert kept.get("w1:1", 20) + kept.get("w3:1", 12) == 16


@pytest.mark.parametrize("argument", ["ignore=[nope]", "only=[nope]", "ratios={nope: 0.5}"])
def test_a_name_that_matches_nothing_is_an_error(argument: str) -> None:
    with pytest.raises(ArgumentError, match="nothing in the model is called 'nope'"):
        graphprune.compile(deep(), f"prune({argument})")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ratio=1", "ratio must be in"),
        ("ratio=-0.1", "ratio must be in"),
        ("params=0", "share that is kept"),
        ("macs=1.5", "a whole number of multiply-adds"),
        ("bytes=3ms", "an amount such as"),
        ("params=4MB", "no amount of parameters"),
        ("ratio=0.5, macs=0.5", "ratio says how much goes, so it stands alone"),
        ("align=0", "align must be at least 1"),
        ("min-keep=1", "min-keep must be in"),
        ("layernorm=slice", "changes what LayerNorm computes"),
        ("ratios={w1: 2}", "must be in"),
    ],
)
def test_impossible_arguments_are_refused(arguments: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        graphprune.compile(deep(), f"prune({arguments})")
    assert caught.value.exit_code == 2


def test_nothing_prunable_lists_the_pins() -> None:
    model = sketch("(float[n,5] x) => (float[n,4] y) { y = MatMul(x, w1) }", w1=(5, 4)).model
    with pytest.raises(PromiseError) as caught:
        graphprune.compile(model, "prune")
    assert caught.value.exit_code == 1
    assert "w1:0 (5 units): graph input 'x'" in caught.value.message
    assert "w1:1 (4 units): graph output 'y'" in caught.value.message


def test_a_pinned_layer_norm_says_how_to_unpin_it() -> None:
    model = sketch(
        "(float[n,5] x) => (float[n,4] y) { a = MatMul(x, w1)\n b = LayerNormalization(a, g, s)\n"
        " y = MatMul(b, w2) }",
        w1=(5, 8), g=(8,), s=(8,), w2=(8, 4),
    ).model  # fmt: skip
    with pytest.raises(PromiseError) as caught:
        graphprune.compile(model, "prune")
    assert "layernorm=expand" in caught.value.hint
    assert graphprune.compile(model, "prune(layernorm=expand)").plans[0].cuts


def test_filters_that_leave_nothing_are_named() -> None:
    with pytest.raises(PromiseError, match="only= and ignore= leave no Group"):
        graphprune.compile(deep(), 'prune(ignore=["*"])')


def test_a_ratio_below_the_smallest_step_is_an_error() -> None:
    with pytest.raises(PromiseError, match="no Group allows a step this small") as caught:
        graphprune.compile(convs(16, 32), "prune(ratio=0.01)")
    assert "align=1" in caught.value.hint


def test_a_ratio_of_zero_is_not_an_error() -> None:
    assert graphprune.compile(deep(), "prune(ratio=0)").plans[0].empty


def test_pins_win_over_only() -> None:
    with pytest.raises(PromiseError, match="leave no Group"):
        graphprune.compile(deep(), 'prune(only=["w4:1"])')
