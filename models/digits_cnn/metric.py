"""Top-1 accuracy of a digits model on the 1 000 held-out images: numpy and onnxruntime, no torch.

Run: ``python models/digits_cnn/metric.py [model.onnx ...]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
BATCH = 100


def held_out(limit: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images [N,1,28,28] in 0..1 and labels [N], in an order that mixes the classes."""
    with np.load(HERE / "eval.npz") as archive:
        images = archive["image"][:limit].astype(np.float32) / np.float32(255)
        return images, archive["label"][:limit].astype(np.int64)


def correct(model: str | Path | bytes, limit: int | None = None) -> NDArray[np.bool_]:
    """Which held-out images the model gets right, [N]; compare two models item by item with it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    images, labels = held_out(limit)
    starts = range(0, len(images), BATCH)
    logits = np.concatenate([session.run(None, {name: images[at : at + BATCH]})[0] for at in starts])
    return np.asarray(logits.argmax(1) == labels)


def accuracy(model: str | Path | bytes, limit: int | None = None) -> float:
    """Share of the first `limit` held-out images classified correctly; all 1 000 when `limit` is None."""
    return float(correct(model, limit).mean())


if __name__ == "__main__":
    for path in sys.argv[1:] or [str(HERE / "model.onnx")]:
        print(f"{path}  top-1 {accuracy(path):.4f}")
