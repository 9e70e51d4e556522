from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
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


def test_a_process_that_loads_a_file_imports_nothing_that_reads_models(build, tmp_path: Path):
    ir.save(build("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }"), tmp_path / "m.onnx")
    code = """
import sys
from pathlib import Path
import numpy as np
from graphprune.runtime.loading import Loaded, _child
found = _child(Loaded(Path("m.onnx"), {"x": np.zeros((1, 4), np.float32)}, 1, ("cpu",), 60.0))
print(found["load_s"] > 0, [name for name in ("onnx", "onnx_ir") if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_types_that_numpy_lacks_are_loaded_all_the_same(build, tmp_path: Path):
    model = build("(bfloat16[1,4] x) => (float[1,4] y) { y = Cast<to=1>(x) }")
    ir.save(model, tmp_path / "m.onnx")
    feeds = {"x": np.zeros((1, 4), ml_dtypes.bfloat16)}
    (found,) = costs([Loaded(tmp_path / "m.onnx", feeds, 1, ("cpu",), 60.0)])
    assert 0 < found.load_s < 60
