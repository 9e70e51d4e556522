"""What Groups lose at every width, and what of it outputs were seen to lose."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.prune.curves import local_curves, probed_curves
from tests.prune.widths import deep

GROUPS = analyse(deep()).prunable
SCORES = {group.id: np.random.default_rng(at).random(group.size) for at, group in enumerate(GROUPS)}
LOCAL = local_curves(GROUPS, SCORES, SCORES)


def test_a_local_curve_adds_up_what_goes() -> None:
    for group in GROUPS:
        curve = LOCAL[group.id]
        assert len(curve) == group.size + 1 and curve[0] == 0
        for gone in range(group.size + 1):
            assert curve[gone] == pytest.approx(np.sort(SCORES[group.id])[:gone].sum())


def test_losses_follow_the_order_in_which_units_go() -> None:
    (group, *_) = GROUPS
    order = {group.id: -SCORES[group.id]}
    curve = local_curves([group], SCORES, order)[group.id]
    assert curve[1] == pytest.approx(SCORES[group.id].max())


def test_standardised_scores_make_curves_that_never_fall() -> None:
    standard = {name: values - values.mean() for name, values in SCORES.items()}
    assert all((np.diff(curve) >= 0).all() for curve in local_curves(GROUPS, standard, standard).values())


def test_a_probed_curve_goes_through_its_probes_and_never_falls() -> None:
    name = GROUPS[1].id
    probes = {name: {4: 0.02, 20: 0.5, 36: 0.6}}
    curve = probed_curves(LOCAL, probes)[name]
    assert [curve[count] for count in probes[name]] == pytest.approx([*probes[name].values()])
    assert (np.diff(curve) >= 0).all() and curve[0] == 0
    assert 0.02 < curve[10] < 0.5


def test_groups_that_were_not_probed_are_as_dear_as_most() -> None:
    first, second, third = (group.id for group in GROUPS)
    probes = {first: {5: 3 * LOCAL[first][5]}, second: {9: 5 * LOCAL[second][9]}}
    curves = probed_curves(LOCAL, probes)
    assert curves[third] == pytest.approx(np.sqrt(15) * LOCAL[third])
    assert curves[first] == pytest.approx(3 * LOCAL[first])


def test_nothing_probed_leaves_local_losses() -> None:
    for name, curve in probed_curves(LOCAL, {}).items():
        assert curve == pytest.approx(LOCAL[name])


def test_units_that_lose_nothing_stay_free_whatever_a_probe_of_all_says() -> None:
    name = GROUPS[0].id
    free = {**LOCAL, name: np.concatenate([np.zeros(11), np.arange(1.0, 11)])}
    curve = probed_curves(free, {name: {12: 0.8}})[name]
    assert curve[10] < 1e-9 and curve[12] == pytest.approx(0.8)


def test_probes_that_fall_with_the_width_are_pooled() -> None:
    name = GROUPS[1].id
    found = probed_curves(LOCAL, {name: {4: 0.02, 12: 0.5, 20: 0.08, 36: 0.6}})[name]
    assert [found[count] for count in (4, 12, 20, 36)] == pytest.approx([0.02, 0.2, 0.2, 0.6])
