"""ONNX Runtime sessions as the evaluations use them: one thread, quiet, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .workload import ModelSource


def open_session(model: ModelSource) -> onnxruntime.InferenceSession:
    """A CPU session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_batched(
    session: onnxruntime.InferenceSession, feed: Mapping[str, NDArray[np.generic]], batch: int = 64
) -> NDArray[np.float32]:
    """First output for inputs that all have the batch on axis 0, run `batch` rows at a time."""
    rows = len(next(iter(feed.values())))
    parts = [
        session.run(None, {name: value[at : at + batch] for name, value in feed.items()})[0]
        for at in range(0, rows, batch)
    ]
    return np.concatenate(parts)


def input_name(session: onnxruntime.InferenceSession) -> str:
    """Name of the only input."""
    return str(session.get_inputs()[0].name)
