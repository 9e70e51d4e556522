"""`make demo`: compile the model that ships with the repository, and show what it costs and what it gains."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "models" / "digits_cnn"
PIPELINE = "prune(ratio=0.5)"
sys.path.insert(0, str(DIGITS))


@dataclass(frozen=True)
class Demo:
    """The shipped model before and after."""

    accuracy_before: float
    accuracy_after: float
    speedup: float
    verdict: str
    params_left: float


def run(folder: Path) -> Demo:
    """Compile models/digits_cnn/model.onnx into a folder and measure both models on the held-out images."""
    from metric import accuracy  # models/digits_cnn/metric.py

    import graphprune

    dense, small = DIGITS / "model.onnx", folder / "digits_small.onnx"
    result = graphprune.compile(
        dense, PIPELINE, small, calibration=DIGITS / "calibration.npz", overwrite=True, bench=True
    )
    show(result.report)
    latency = result.report.latency
    assert latency is not None
    return Demo(
        accuracy_before=accuracy(dense),
        accuracy_after=accuracy(small),
        speedup=latency.speedup,
        verdict=latency.verdict,
        params_left=result.report.after.params / result.report.before.params,
    )
