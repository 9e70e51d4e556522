from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ModelError
from graphprune.runtime.loading import Loaded, costs

pytestmark = pytest.mark.timed
SIDE = 2048
FEEDS = {"x": np.zeros((1, SIDE), np.float32)}


def test_memory_grows_with_the_weights_and_each_process_starts_anew(build, tmp_path: Path):
    one = build("(float[1,2048] x) => (float[1,2048] y) { y = MatMul(x, w) }", w=(SIDE, SIDE))
    two = build(
        "(float[1,2048] x) => (float[1,2048] y) { h = MatMul(x, w) y = MatMul(h, v) }",
        w=(SIDE, SIDE),
        v=(SIDE, SIDE),
    )
    paths = [tmp_path / "two.onnx", tmp_path / "one.onnx"]
    for path, model in zip(paths, (two, one), strict=True):
        ir.save(model, path)
    large, small = costs([Loaded(path, FEEDS, 1, ("cpu",), 60.0) for path in paths])
    weights = 4 * SIDE**2
    assert 2 * weights < large.peak_bytes < 8 * weights
    assert weights < small.peak_bytes < large.peak_bytes - weights / 2
    assert 0 < small.load_s < 60


def test_a_model_that_fails_alone_is_an_error_that_says_why(tmp_path: Path):
    with pytest.raises(ModelError, match=r"in a process of its own .*gone\.onnx"):
        costs([Loaded(tmp_path / "gone.onnx", FEEDS, 1, ("cpu",), 60.0)])
