"""A small model that can be cut, samples for it, and searches that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.pipeline.settings import Tuning
from graphprune.tuning.case import Job
from graphprune.tuning.search import Search

RANK = 4
TEXT = """(float[n,6] x) => (float[n,4] y) {
    a = MatMul(x, w1)
    b = Relu(a)
    c = MatMul(b, w2)
    d = Relu(c)
    y = MatMul(d, w3)
}"""


def mlp(seed: int = 0) -> ir.Model:
    """Two hidden layers, of which a few units do the work."""
    rng = np.random.default_rng(seed)
    w1 = rng.standard_normal((6, RANK)) @ rng.standard_normal((RANK, 64))
    w2 = rng.standard_normal((64, RANK)) @ rng.standard_normal((RANK, 64)) / 8
    w3 = rng.standard_normal((64, 4))
    weights = {"w1": w1, "w2": w2, "w3": w3}
    tensors = [ir.tensor(array.astype(np.float32), name=name) for name, array in weights.items()]
    return ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng {TEXT}', initializers=tensors)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and 64 samples in it."""
    monkeypatch.chdir(tmp_path)
    ir.save(mlp(), tmp_path / "model.onnx")
    samples = np.random.default_rng(1).standard_normal((64, 6)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    return tmp_path


Make = Callable[..., Search]


@pytest.fixture
def search(folder: Path) -> Make:
    """A search of so many steps."""

    def make(steps: int = 3, output: str | None = "small.onnx", **options: object) -> Search:
        path = None if output is None else Path(output)
        job = Job(Path("model.onnx"), Path("samples.npz"), path)
        return Search(job, Tuning(**{"steps": steps, "time": 2.0, "max_drop": 0.2, "jobs": 1, **options}))  # type: ignore[arg-type]

    return make
