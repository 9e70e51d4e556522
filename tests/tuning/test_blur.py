"""Noise on samples: always the same, only where inputs may have some, as large as their numbers differ."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.ir.arrays import Arrays
from graphprune.pipeline.samples import Judging
from graphprune.tuning.blur import NOISE, blurred

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n,8] x, int64[n,2] ids, float[n,3] mask) => (float[n,3] y) {
    a = MatMul(x, w)
    y = Mul(a, mask)
}"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(TEXT, initializers=[ir.tensor(np.ones((8, 3), np.float32), name="w")])


def judging(model: ir.Model, **arrays: np.ndarray) -> Judging:
    rng = np.random.default_rng(0)
    given: Arrays = {
        "x": rng.standard_normal((50, 8)).astype(np.float32)
        * np.array([0, 1, 10, 1, 1, 1, 1, 1], np.float32),
        "ids": rng.integers(0, 9, (50, 2)),
        "mask": rng.integers(0, 2, (50, 3)).astype(np.float32),
    }
    return Judging([{**given, **arrays}], "inputs", model, tuple(range(50)))


def stacked(found: Judging, name: str) -> np.ndarray:
    return np.concatenate([feed[name] for feed in found.feeds()])


def test_noise_is_a_share_of_what_each_number_differs_by(model: ir.Model) -> None:
    clean = judging(model)
    noisy = blurred(clean, model)
    assert noisy is not None
    apart = (stacked(noisy, "x") - stacked(clean, "x")).std(axis=0)
    np.testing.assert_allclose(apart, NOISE * stacked(clean, "x").std(axis=0), rtol=0.4)
    assert not apart[0]


def test_ids_and_masks_stay_and_the_noise_is_always_the_same(model: ir.Model) -> None:
    clean = judging(model)
    noisy = blurred(clean, model)
    assert noisy is not None
    assert len(noisy) == len(clean)
    for name in ("ids", "mask"):
        np.testing.assert_array_equal(stacked(noisy, name), stacked(clean, name))
    np.testing.assert_array_equal(stacked(noisy, "x"), stacked(noisy, "x"))
    assert stacked(noisy, "x").dtype == np.float32


def test_where_nothing_may_change_there_is_no_noise(model: ir.Model) -> None:
    assert blurred(judging(model, x=np.ones((50, 8), np.float32)), model) is None
