"""Small classifiers that stand beside the real models: what suits one kind may not suit another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.real_models.mnist import digits
from tools.real_models.session import input_name, open_session, run_batched
from tools.real_models.store import once, require
from tools.real_models.workload import Arrays, Evaluation, Kind, ModelSource, Workload

SEED, TRAINED = 6001, 1000
Data = tuple[NDArray[np.generic], NDArray[np.int64], NDArray[np.bool_]]


@cache
def rows() -> Data:
    """MNIST pictures as sequences: 28 rows [N,28,28] are the channels; labels, and which are held out."""
    images, labels, held = digits()
    return images[:, 0], labels, held


@cache
def tokens() -> Data:
    """The 8 x 8 digits of scikit-learn as 64 whole numbers of 0 to 16, labels, and which are held out."""
    require("sklearn")
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(SEED).permutation(len(found.target))
    held = np.arange(len(order)) >= TRAINED
    return found.data[order].astype(np.int64), found.target[order].astype(np.int64), held


@cache
def series() -> Data:
    """The same digits as eight steps of eight floats."""
    ids, labels, held = tokens()
    return (ids.astype(np.float32) / np.float32(16)).reshape(-1, 8, 8), labels, held


def workload(name: str, data: Callable[[], Data], epochs: int, about: str) -> Workload:
    """A network that is trained here and scored on inputs that it was not trained on."""

    def write(target: Path) -> None:
        import torch

        from tools.real_models.export import scripted

        from .networks import fit, network

        inputs, labels, held = data()
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        given = torch.from_numpy(inputs[~held])
        net = fit(network(name), given, torch.from_numpy(labels[~held]), epochs)
        scripted(net.eval(), given[:2], target, ("x", "logits"))

    def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
        inputs, labels, held = data()
        session = open_session(model)
        output = run_batched(session, {input_name(session): inputs[held][:limit]}, batch=100)
        right = (output.argmax(1) == labels[held][:limit]).astype(np.float64)
        return Evaluation({"top1": float(right.mean())}, right)

    def calibration(count: int) -> Arrays:
        inputs, _, held = data()
        return {"x": inputs[~held][:count]}

    return Workload(
        name,
        Kind.GROUND_TRUTH,
        "top-1 on inputs held out",
        None,
        about,
        lambda folder: once(folder / f"{name}.onnx", write),
        evaluate,
        calibration,
    )


OWN = (
    workload("rows-conv", rows, 4, "convolutions over 28 positions of 28 channels"),
    workload("series-gru", series, 30, "one GRU over eight steps, its last state classified"),
    workload("tokens-transformer", tokens, 30, "an embedding of ids, two attention blocks, their mean"),
)
