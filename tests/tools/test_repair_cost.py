"""The table of what a repair costs says what is missed, and sees what a layer takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

import graphprune
from tools.repair_cost import models
from tools.repair_cost.__main__ import LAYER, Cost, Work, line
from tools.repair_cost.watch import SECONDS, Layers, anonymous


@pytest.mark.parametrize(
    "cost, word",
    [
        (Cost(9, 10, LAYER, 100), "kept"),
        (Cost(11, 10, LAYER, 100), "missed"),
        (Cost(9, 10, LAYER + 1, 100), "missed"),
        (Cost(9, 10, LAYER, 101), "missed"),
    ],
)
def test_a_row_is_kept_where_every_bound_is(cost: Cost, word: str) -> None:
    assert line("x", Work(models.flat, 32, 10, memory=100), cost).endswith(f"| {word} |")


def test_layers_are_watched() -> None:
    small, layers = models.flat(), Layers()
    with layers.watched():
        graphprune.compile(small, "obspa(macs=0.6)", calibration=models.noise(small, 2))
    assert 0 <= layers.most < anonymous()


def test_what_a_layer_takes_is_beside_its_own_weight() -> None:
    layers = Layers()

    def work() -> float:
        array = np.ones(1 << 23)
        time.sleep(10 * SECONDS)
        return float(array[0])

    layers._during(work, 1 << 20)
    assert layers.most > 1 << 25
