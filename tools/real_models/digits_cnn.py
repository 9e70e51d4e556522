"""The model that ships with the repository, under the same interface as the others."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

FOLDER = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"


@cache
def metric() -> ModuleType:
    """models/digits_cnn/metric.py: the one definition of this model's accuracy."""
    spec = importlib.util.spec_from_file_location("digits_cnn_metric", FOLDER / "metric.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fetch(_cache: Path) -> Path:
    """The shipped model where it lies; a copy in the cache would outlive a retrained one."""
    return FOLDER / "model.onnx"


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Top-1 accuracy on the held-out images."""
    right = metric().correct(model, limit).astype(np.float64)
    return Evaluation({"top1": float(right.mean())}, right)


def calibration(count: int) -> Arrays:
    """Training images [n,1,28,28]."""
    with np.load(FOLDER / "calibration.npz") as archive:
        return {name: archive[name][:count] for name in archive.files}


WORKLOADS = (
    Workload(
        name="digits-cnn",
        kind=Kind.GROUND_TRUTH,
        metric="top-1 on 1 000 held-out MNIST images",
        expected=None,
        about="torch (TorchScript), opset 17: residual and inverted residual blocks, group lasso",
        fetch=fetch,
        evaluate=evaluate,
        calibration=calibration,
    ),
)
