"""scikit-learn's 8x8 digits: a multilayer perceptron of scikit-learn and a CNN of Keras on torch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .session import input_name, open_session, run_batched
from .store import once, require
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

SEED = 3001
HELD_OUT = 450


@cache
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All 1 797 images [N,64] in 0..16 and labels; the first 450 are held out."""
    require("sklearn")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return images[order].astype(np.float32), labels[order].astype(np.int64)


def as_images(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N,64] in 0..16 to [N,8,8,1] in 0..1: channels last, as Keras has them."""
    return flat.reshape(-1, 8, 8, 1) / np.float32(16)


def fetch_sklearn(cache_dir: Path) -> Path:
    """Train the perceptron behind a scaler and convert the pipeline."""

    def write(target: Path) -> None:
        require("skl2onnx")
        from skl2onnx import to_onnx
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        images, labels = digits()
        classifier = MLPClassifier((128, 64), max_iter=60, alpha=1e-3, random_state=SEED)
        pipeline = make_pipeline(StandardScaler(), classifier).fit(images[HELD_OUT:], labels[HELD_OUT:])
        converted = to_onnx(
            pipeline, images[:1], options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3}
        )
        target.write_bytes(converted.SerializeToString())

    return once(cache_dir / "sklearn-mlp.onnx", write)


def evaluate_sklearn(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Accuracy of the label output on the held-out images."""
    images, labels = digits()
    count = min(HELD_OUT, limit or HELD_OUT)
    session = open_session(model)
    found = run_batched(session, {input_name(session): images[:count]})
    right = (found.ravel() == labels[:count]).astype(np.float64)
    return Evaluation({"top1": float(right.mean())}, right)


def calibrate_sklearn(count: int) -> Arrays:
    """Training images [n,64]."""
    return {"X": digits()[0][HELD_OUT:][:count]}


def fetch_keras(cache_dir: Path) -> Path:
    """Train a channels-last CNN in Keras on torch and let Keras export it."""

    def write(target: Path) -> None:
        require("keras")
        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        keras.utils.set_random_seed(SEED)
        layers = keras.layers
        net = keras.Sequential(
            [
                layers.Input((8, 8, 1), name="image"),
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.Conv2D(32, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
                layers.Conv2D(48, 3, padding="same", activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(64, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
        images, labels = digits()
        net.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
        net.fit(as_images(images[HELD_OUT:]), labels[HELD_OUT:], epochs=20, batch_size=32, verbose=0)
        partial = target.with_suffix(".keras-export.onnx")
        net.export(str(partial), format="onnx", verbose=False)
        partial.replace(target)

    return once(cache_dir / "keras-cnn.onnx", write)


def evaluate_keras(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Top-1 accuracy on the held-out images."""
    images, labels = digits()
    count = min(HELD_OUT, limit or HELD_OUT)
    session = open_session(model)
    output = run_batched(session, {input_name(session): as_images(images[:count])})
    right = (output.argmax(1) == labels[:count]).astype(np.float64)
    return Evaluation({"top1": float(right.mean())}, right)


def calibrate_keras(count: int) -> Arrays:
    """Training images [n,8,8,1]."""
    return {"image": as_images(digits()[0][HELD_OUT:][:count])}


WORKLOADS = (
    Workload(
        name="sklearn-mlp",
        kind=Kind.GROUND_TRUTH,
        metric="top-1 on 450 held-out scikit-learn digits",
        expected=0.973,
        about="skl2onnx, opset 21: ai.onnx.ml Scaler before, ArrayFeatureExtractor behind; label first",
        fetch=fetch_sklearn,
        evaluate=evaluate_sklearn,
        calibration=calibrate_sklearn,
    ),
    Workload(
        name="keras-cnn",
        kind=Kind.GROUND_TRUTH,
        metric="top-1 on 450 held-out scikit-learn digits",
        expected=0.964,
        about="Keras 3 on torch, channels last: Casts and Transposes around every convolution",
        fetch=fetch_keras,
        evaluate=evaluate_keras,
        calibration=calibrate_keras,
    ),
)
