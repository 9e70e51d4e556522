"""scikit-learn's perceptrons through skl2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.zoo.frameworks.written import SEED, Written, normal


def _perceptron(model: str) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if model == "regressor":
        return MLPRegressor(hidden_layer_sizes=(48, 32), activation="tanh", max_iter=20, random_state=SEED)
    return MLPClassifier(hidden_layer_sizes=(64, 32), max_iter=20, random_state=SEED)


def write(model: str, path: Path) -> Written:
    """Fits the perceptron on noise behind a scaler, and converts the pipeline."""
    from skl2onnx import to_onnx
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = normal(200, 20)
    labels = rows[:, 0] if model == "regressor" else (rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0)
    pipeline = make_pipeline(StandardScaler(), _perceptron(model)).fit(rows, labels)
    options = None if model == "regressor" else {"zipmap": False}
    converted = to_onnx(pipeline, rows[:1], options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    path.write_bytes(converted.SerializeToString())
    wanted = pipeline.predict(rows[:4]) if model == "regressor" else pipeline.predict_proba(rows[:4])
    return Written((rows[:4],), np.asarray(wanted, np.float32).reshape(4, -1))
