"""Settings that are compared change a training while they are held, and nothing afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.autograd.training import draws, train
from graphprune.autograd.training.setting import Trained
from tools.recover_settings.drawn import Tried
from tools.recover_settings.settings import SETTINGS, Setting

from .test_train import lesson, net, trained

pytestmark = pytest.mark.zoo
SAME = ("usual", "ids half crossed", "ids crossed", "match", "320 samples")
"""Those that change nothing here: there are no ids, and the rest begins with another lesson."""
RATES = ("rate x 2", "rate x 4", "rate / 2")


def under(setting: Setting) -> Trained:
    given = lesson(net(5))
    with setting.held(given):
        return trained(given, 24)


@pytest.mark.parametrize("name", [each for each in SETTINGS if each not in RATES])
def test_a_setting_changes_the_training_and_ends(name: str) -> None:
    usual, found, again = under(Setting()), under(SETTINGS[name]), under(Setting())
    assert (found.curve[-1].selection == usual.curve[-1].selection) == (name in SAME)
    assert again.curve[1:] == usual.curve[1:] and found.curve[0].selection == usual.curve[0].selection
    assert draws.NOISE == 0.5 and train.AVERAGED == 0.05


def test_crossed_ids_are_those_of_two_samples_in_their_places() -> None:
    samples = [{"ids": row[None]} for row in np.random.default_rng(0).integers(0, 1000, (16, 12))]
    found = Tried(samples, {}, False, 0, crossed=1.0)
    kept = []
    for number in range(16):
        ids, own = found.draw(1, number)["ids"], samples[number]["ids"]
        apart = ids != own
        kept.append(1 - apart.mean())
        assert any((ids[apart] == each["ids"][apart]).all() for each in samples)
    assert 0.2 < np.mean(kept) < 0.9


def test_nothing_is_crossed_beside_a_mask() -> None:
    random = np.random.default_rng(0)
    ids, masks = random.integers(0, 9, (8, 1, 8)), random.integers(0, 2, (8, 1, 8))
    samples = [{"ids": one, "mask": two} for one, two in zip(ids, masks, strict=True)]
    found = Tried(samples, {}, False, 0, crossed=1.0)
    assert all((found.draw(0, at)["ids"] == samples[at]["ids"]).all() for at in range(8))
