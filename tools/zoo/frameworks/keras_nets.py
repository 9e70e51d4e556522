"""Keras 3: the same nets on the torch backend (torch's exporter) and on TensorFlow's (tf2onnx)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.zoo.frameworks.written import SEED, Written, normal


def _cnn(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((32, 32, 3)),
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


def _flat(keras: Any) -> Any:
    """Channels last behind a Flatten: every channel owns one column per pixel."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((16, 16, 3)),
            layers.Conv2D(24, 5, strides=2, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(48, activation="tanh"),
            layers.Dense(10),
        ]
    )


def _residual(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    stream = layers.Conv2D(32, 3, padding="same")(image)
    for _ in range(2):
        branch = layers.SeparableConv2D(32, 3, padding="same", activation="swish")(stream)
        branch = layers.BatchNormalization()(branch)
        gate = layers.GlobalAveragePooling2D(keepdims=True)(branch)
        gate = layers.Conv2D(8, 1, activation="relu")(gate)
        branch = layers.Multiply()([branch, layers.Conv2D(32, 1, activation="sigmoid")(gate)])
        stream = layers.Add()([stream, branch])
    both = layers.Concatenate()([stream, layers.Conv2D(16, 1, activation="relu")(stream)])
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(both)))


def _transformer(keras: Any) -> Any:
    layers = keras.layers
    tokens = keras.Input((16, 64))
    stream = tokens
    for _ in range(2):
        normed = layers.LayerNormalization()(stream)
        stream = layers.Add()([stream, layers.MultiHeadAttention(4, 16)(normed, normed)])
        hidden = layers.Dense(128, activation="swish")(layers.LayerNormalization()(stream))
        stream = layers.Add()([stream, layers.Dense(64)(hidden)])
    return keras.Model(tokens, layers.Dense(10)(layers.GlobalAveragePooling1D()(stream)))


def _recurrent(keras: Any) -> Any:
    layers = keras.layers
    frames = keras.Input((12, 20))
    hidden = layers.Dense(32, activation="relu")(frames)
    hidden = layers.LSTM(24, return_sequences=True, unroll=True)(hidden)
    return keras.Model(frames, layers.Dense(10)(layers.GRU(16, unroll=True)(hidden)))


def _mobilenet(keras: Any) -> Any:
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.5, weights=None, classes=10)


def _efficientnet(keras: Any) -> Any:
    return keras.applications.EfficientNetB0(weights=None, input_shape=(96, 96, 3), classes=10)


NETS: dict[str, Callable[[Any], Any]] = {
    "cnn": _cnn,
    "flat": _flat,
    "residual": _residual,
    "transformer": _transformer,
    "recurrent": _recurrent,
    "mobilenet_v2": _mobilenet,
    "efficientnet_b0": _efficientnet,
}


def write(backend: str, model: str, path: Path) -> Written:
    """Builds one of `NETS` with random weights and lets Keras export it."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import keras

    keras.utils.set_random_seed(SEED)
    net = NETS[model](keras)
    for weight in net.weights:  # moving averages of a batch that nobody has seen
        if weight.name.startswith("moving_mean"):
            weight.assign(0.1 * normal(*weight.shape))
    inputs = (normal(2, *net.input_shape[1:]),)
    expected = np.asarray(keras.ops.convert_to_numpy(net(inputs[0], training=False)))
    net.export(str(path), format="onnx", verbose=False)
    return Written(inputs, expected)
