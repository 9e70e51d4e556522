"""Files that come from TFLite, cut beside their float twin: ``python -m tools.tflite {make,cut} FOLDER``.

`make` needs an environment with tensorflow-cpu, tf2onnx and scikit-learn, which shares no protobuf with ours:
it trains a small network on the digits, converts it by TFLite (float, weights in eight bits, all in eight
bits) and from there to ONNX. `cut` needs graphprune alone: it cuts each form and judges it against itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

FORMS = ("float", "weights", "static")
TRAINED, SAMPLES, EPOCHS = 1200, 512, 25


def make(folder: Path) -> None:
    """Writes data.npz and one .onnx per form into the folder."""
    import tensorflow as tf
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    tf.keras.utils.set_random_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = (digits.images[order, ..., None] / 16).astype(np.float32), digits.target[order]
    layers = tf.keras.layers
    convolution = {"padding": "same", "activation": "relu"}
    network = [
        layers.Conv2D(32, 3, **convolution),
        layers.DepthwiseConv2D(3, **convolution),
        layers.Conv2D(64, 1, activation="relu6"),
        layers.MaxPool2D(),
        layers.Conv2D(96, 3, **convolution),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ]
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 1), batch_size=1), *network])
    trained = tf.keras.Sequential([tf.keras.Input((8, 8, 1)), *network])
    trained.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(True))
    trained.fit(x[:TRAINED], y[:TRAINED], epochs=EPOCHS, verbose=0)
    np.savez(folder / "data.npz", calibration=x[:SAMPLES], x=x[TRAINED:], y=y[TRAINED:])
    for form in FORMS:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [] if form == "float" else [tf.lite.Optimize.DEFAULT]
        if form == "static":
            converter.representative_dataset = lambda: ([each[None]] for each in x[:SAMPLES])
        flat = folder / f"{form}.tflite"
        flat.write_bytes(converter.convert())
        target = ["--output", str(flat.with_suffix(".onnx")), "--opset", "15"]
        subprocess.run([sys.executable, "-m", "tf2onnx.convert", "--tflite", str(flat), *target], check=True)


def cut(folder: Path, macs: float) -> Iterator[str]:
    """Rows of docs/quantised.md."""
    import onnx

    import graphprune
    from tools.quantised import PASSES, Row

    data = np.load(folder / "data.npz")
    twin = 0.0
    for form in FORMS:
        dense, small = folder / f"{form}.onnx", folder / f"{form}.small.onnx"
        name = onnx.load(dense).graph.input[0].name
        arrays = {name: data["calibration"]}
        report = graphprune.compile(
            dense, PASSES.format(macs=macs), small, calibration=arrays, force=True
        ).report
        before, after = (_accuracy(each, name, data["x"], data["y"]) for each in (dense, small))
        row = Row("digits, TFLite", form, before, after, report.after.macs / max(1, report.before.macs))
        twin = row.drop if form == "float" else twin
        yield str(replace(row, beyond=row.drop - twin))


def _accuracy(model: Path, name: str, x: np.ndarray, y: np.ndarray) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = [session.run(None, {name: each[None]})[0].argmax() for each in x]
    return float(np.mean(np.array(said) == y))


def main() -> None:
    """Makes the files, or cuts them and prints."""
    parser = argparse.ArgumentParser(prog="python -m tools.tflite", description=__doc__)
    parser.add_argument("what", choices=("make", "cut"))
    parser.add_argument("folder", type=Path, help="where the files lie")
    parser.add_argument("--macs", type=float, default=0.5, help="share of the multiply-adds that stays")
    parser.add_argument("--page", type=Path, help="page whose rows of these files are replaced")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder)
        return
    rows = []
    for row in cut(options.folder, options.macs):
        print(row, flush=True)
        rows.append(row)
    if options.page is not None:
        from tools.quantised import merged

        text = options.page.read_text()
        head = text[: text.index("\n", text.index("|---|")) + 1]
        options.page.write_text(head + "\n".join(merged(options.page, rows)) + "\n")


if __name__ == "__main__":
    main()
