"""Shares of a whole model: the least that meets a budget, and what one Unit costs."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.axes import analyse
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.prune.allocate import MOST, costs, least_share, per_cost

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
