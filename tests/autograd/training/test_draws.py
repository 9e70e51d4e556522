"""Draws change what may be changed, by their number alone, and leave ids, masks and states as they are."""

from __future__ import annotations

import numpy as np
import pytest

from graphprune.autograd.training.draws import MIXED, Draws, draws
from graphprune.ir.arrays import Array
from tests.proof.building import model

pytestmark = pytest.mark.zoo
TEXT = """(float[n,6] x, int64[n,6] ids, float[n,6] mask, float[n,6] state) => (float[n,6] y) {
    i = Cast<to = 1>(ids)
    a = Add(x, i)
    b = Mul(a, mask)
    y = Add(b, state)
}"""
RANDOM = np.random.default_rng(0)


def sample() -> dict[str, Array]:
    return {
        "x": RANDOM.standard_normal((1, 6)).astype(np.float32),
        "ids": RANDOM.integers(0, 9, (1, 6)),
        "mask": RANDOM.integers(0, 2, (1, 6)).astype(np.float32),
        "state": np.zeros((1, 6), np.float32),
    }


def drawn(samples: list[dict[str, Array]]) -> Draws:
    return draws(model(TEXT, 17), samples, 0)


def test_only_floats_that_differ_and_are_no_masks_are_changed() -> None:
    samples = [sample() for _ in range(8)]
    found = drawn(samples)
    assert list(found.free) == ["x"] and not found.mixed  # ids of two samples have no mean
    shown = [found.draw(epoch, number) for epoch in range(4) for number in range(8)]
    for at, feed in enumerate(shown):
        assert all((feed[name] == samples[at % 8][name]).all() for name in ("ids", "mask", "state"))
        assert all(feed[name].dtype == samples[0][name].dtype for name in feed)
    moved = [np.abs(feed["x"] - samples[at % 8]["x"]).max() for at, feed in enumerate(shown)]
    assert any(each > 0.01 for each in moved) and any(each == 0 for each in moved)


def test_ids_that_come_as_floats_stay() -> None:
    text = """(float[n,6] x, float[n,6] ids) => (float[n,6] y) {
        column = Constant <value = int64[2] {-1, 1}> ()
        moved = Reshape(ids, column)
        whole = Cast<to = 7>(moved)
        i = Cast<to = 1>(whole)
        shape = Shape(x)
        back = Reshape(i, shape)
        y = Add(x, back)
    }"""
    samples = [{**sample(), "ids": RANDOM.integers(0, 9, (1, 6)).astype(np.float32)} for _ in range(8)]
    assert list(draws(model(text, 17), [{n: s[n] for n in ("x", "ids")} for s in samples], 0).free) == ["x"]


def test_samples_are_mixed_where_all_that_differs_may_be_changed() -> None:
    pictures = [{"x": np.full((1, 1, 2, 2), float(at), np.float32)} for at in range(64)]
    for share, least, most in ((1.0, 51, 64), (0.5, 20, 44), (0.0, 0, 0)):
        found = Draws(pictures, {"x": 0.0}, share, 0)
        mixed = [float(found.draw(0, at)["x"].mean()) for at in range(64)]
        assert least <= sum(each != int(each) for each in mixed) <= most
        assert min(mixed) >= 0 and max(mixed) <= 63


def test_a_draw_is_its_numbers_own() -> None:
    samples = [{"x": RANDOM.standard_normal((1, 6)).astype(np.float32)} for _ in range(8)]
    one, two = (Draws(samples, {"x": 1.0}, 1.0, 0) for _ in range(2))
    two.draw(5, 1)
    assert (one.draw(3, 2)["x"] == two.draw(3, 2)["x"]).all()
    assert not (one.draw(3, 2)["x"] == one.draw(4, 2)["x"]).all()
    assert sorted(one.order(0)) == list(range(8)) and one.order(0) != one.order(1)


def test_labels_are_mixed_like_their_samples() -> None:
    pictures = [{"x": np.full((1, 1, 2, 2), float(at), np.float32)} for at in range(4)]
    found = Draws(pictures, {"x": 0.0}, 1.0, 0, np.eye(4, dtype=np.float32))
    for number in range(4):
        share = found.label(0, number)
        assert share.sum() == pytest.approx(1)
        assert float(found.draw(0, number)["x"].mean()) == pytest.approx(
            float(share @ np.arange(4)), rel=1e-5
        )


def test_pictures_are_mirrored_only_if_asked() -> None:
    picture = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    for asked in (False, True):
        found = Draws([{"x": picture}], {"x": 0.0}, 0.0, 0, mirrored=asked)
        seen = {found.draw(epoch, 0)["x"][0, 0, 0].tolist() == [3, 2, 1, 0] for epoch in range(20)}
        assert seen == ({False, True} if asked else {False})


def test_nothing_is_mixed_where_that_is_not_wanted() -> None:
    samples = [{"x": np.full((1, 3), at, np.float32) + np.arange(3, dtype=np.float32)} for at in range(6)]
    net = model("(float[n,3] x) => (float[n,3] y) {\ny = Relu(x)\n}", 17)
    assert draws(net, samples, 0).mixed == MIXED and not draws(net, samples, 0, mixed=False).mixed
    plain = draws(net, samples, 0, mixed=False)
    assert plain.free and all(plain._mixture(0, number) == (1.0, number) for number in range(6))
