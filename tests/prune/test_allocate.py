"""Shares of a whole model: the least that meets a budget, and what one Unit costs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.prune.allocate import KAPPA, MOST, Cost, block_shares, costs, counter, least_share, per_cost

from .widths import convs


@pytest.mark.parametrize("share", [1e-9, 0.25, 0.9, MOST])
def test_the_least_share_lies_between_one_that_misses_and_one_that_meets(share: float) -> None:
    found = least_share(lambda tried: tried >= share)
    assert found is not None
    assert found[0] < share <= found[1] <= MOST and found[1] - found[0] < 1e-11


def test_there_is_no_least_share_where_the_largest_misses() -> None:
    assert least_share(lambda tried: tried > MOST) is None


def test_scores_below_zero_are_shifted_and_others_are_not() -> None:
    """Per cost relative to the mean: halves and one and a half."""
    cost = {"a": 1.0, "b": 3.0}
    found = per_cost({"a": np.array([1.0, 3.0]), "b": np.array([0.5, 2.0])}, cost)
    np.testing.assert_allclose([*found["a"], *found["b"]], [2, 6, 1 / 3, 4 / 3])
    shifted = per_cost({"a": np.array([-1.0, 3.0]), "b": np.array([0.5, 2.0])}, cost)
    np.testing.assert_allclose([*shifted["a"], *shifted["b"]], [0, 8, 1, 2])


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8, 0.95])
def test_blocks_keep_what_they_are_worth_on_average_as_much_as_asked_and_none_all(keep: float) -> None:
    angles = np.array([0.3, 0.1, 0.25, 0.12])
    found = block_shares(angles, keep)
    worth = 1 / (1 + np.exp(-KAPPA * (angles - angles.mean())))
    plain = keep * worth / worth.mean()
    assert found.mean() == pytest.approx(keep) and found.max() < 1
    assert np.argsort(found).tolist() == np.argsort(angles).tolist()
    if plain.max() < 1:
        np.testing.assert_allclose(found, plain)
    else:
        # deviations shrink alike, to 1/1.05 of what the largest may be
        np.testing.assert_allclose(
            (found - keep) / (found.max() - keep), (plain - keep) / (plain.max() - keep)
        )
        assert found.max() - keep == pytest.approx((1 - keep) / 1.05)


def test_blocks_of_which_all_stays_stay_whole() -> None:
    np.testing.assert_allclose(block_shares(np.array([0.2, 0.2, 0.2]), 1.0), 1.0)
    assert block_shares(np.array([0.3, 0.1]), 1.0).mean() == pytest.approx(1.0)


def test_scores_of_nothing_are_no_error() -> None:
    assert per_cost({}, {}) == {}
    assert [*per_cost({"a": np.array([])}, {"a": 2.0})["a"]] == []


@pytest.mark.parametrize("what", ["params", "macs", "bytes"])
def test_a_budget_counts_what_it_says(what: str) -> None:
    analysis = analyse(convs(6, 4))
    model = CostModel(analysis, {})
    count, dense = counter(model, what)
    assert dense == getattr(model, f"dense_{what}") == count(Kept(analysis, {}))
    kept = Kept(analysis, {analysis.prunable[0].id: (0, 1)})
    assert count(kept) == getattr(model, what)(kept) < dense


@pytest.mark.parametrize("per", ["params", "macs"])
def test_a_single_unit_has_no_half_that_saves_anything_and_costs_the_least_there_is(per: Cost) -> None:
    """Such a Group is what a channel is that stretches of two convolutions share."""
    single = SimpleNamespace(id="c", size=1)
    model = SimpleNamespace(saved=lambda number, kept: (10 * (1 - len(kept)),) * 2)
    found = costs(SimpleNamespace(groups=(single,)), model, [single], per)  # type: ignore[arg-type, list-item]
    assert found == {"c": 1.0}


@pytest.mark.parametrize("width", [8, 9])
def test_a_unit_costs_its_share_of_what_half_of_them_save(width: int) -> None:
    analysis = analyse(convs(width, 4))
    model, (group, *_) = CostModel(analysis, {}), analysis.prunable
    kept = Kept(analysis, {group.id: tuple(range(-(-width // 2)))})
    for per, count, dense in (
        ("params", model.params, model.dense_params),
        ("macs", model.macs, model.dense_macs),
    ):
        assert costs(analysis, model, [group], per)[group.id] == (dense - count(kept)) / (width // 2)  # type: ignore[arg-type]
    assert costs(analysis, model, [group], "unit") == {group.id: 1.0}
