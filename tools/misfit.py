"""Whether calibration that does not fit is told: ``python -m tools.misfit`` prints the table.

Each row repairs the same cut of the shipped model on samples of another kind, and says what is left of its
top-1 on real digits, and which lines were printed: without ``--inputs`` samples that are held back are of the
same kind as those repaired on; with it the result is judged on digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.ir.load import load
from graphprune.pipeline.result import Result
from graphprune.runtime.session import open_session
from tools.command import ended

MODEL = Path(__file__).resolve().parents[1] / "models" / "digits_cnn"
SAMPLES, REAL = 160, 64
LINES = {"calibration does not fit": "does not fit", "as good as dead": "dead", "low rank": "low rank"}
BYTE = 255
Images = np.ndarray
Draw = np.random.Generator


def _blurred(images: Images, draw: Draw) -> Images:
    """A box of 7 x 7."""
    padded = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))
    return np.asarray(windows.mean((4, 5)), np.float32)


def _one_class(images: Images, draw: Draw) -> Images:
    """Those that the model calls as it calls the first one."""
    answers = _answers(_dense(), images)
    return np.resize(images[answers == answers[0]], images.shape)


KINDS: dict[str, Callable[[Images, Draw], Images]] = {
    "digits": lambda images, draw: images,
    "digits, shifted by 2": lambda images, draw: np.roll(images, 2, 3),
    "digits, darker by half": lambda images, draw: images / 2,
    "digits, some noise": lambda images, draw: np.clip(
        images + draw.normal(0, 0.1, images.shape), 0, 1, dtype=np.float32, casting="unsafe"
    ),
    "digits, blurred": _blurred,
    "digits, inverted": lambda images, draw: 1 - images,
    "digits of one class": _one_class,
    "three digits, again and again": lambda images, draw: np.resize(images[:3], images.shape),
    "noise": lambda images, draw: draw.random(images.shape, np.float32),
    "black": lambda images, draw: np.zeros_like(images),
}


def _answers(model: ir.Model, images: Images) -> np.ndarray:
    (logits,) = open_session(model).run({"image": images}).values()
    return logits.argmax(-1)


def _dense() -> ir.Model:
    return load(MODEL / "model.onnx").model


def _told(result: Result) -> str:
    found = [word for line, word in LINES.items() if any(line in each for each in result.report.warnings)]
    return ", ".join(found) or "nothing"


def main() -> None:
    """Prints the table of a cut: `obspa(macs=0.3)`, or what the command line says."""
    passes = sys.argv[1] if len(sys.argv) > 1 else "obspa(macs=0.3)"
    model = (MODEL / "model.onnx").as_posix()
    pool = np.load(MODEL / "calibration.npz")["image"]
    held = np.load(MODEL / "eval.npz")
    real = {"image": pool[-REAL:]}
    print(f"| repaired on | top-1 | told without `--inputs` | with {REAL} digits as `--inputs` |")
    print("|---|---|---|---|")
    for name, change in KINDS.items():
        samples = {"image": change(pool[:SAMPLES], np.random.default_rng(0)).astype(np.float32)}
        alone, beside = (
            graphprune.compile(model, passes, calibration=samples, inputs=given) for given in (None, real)
        )
        right = _answers(alone.model, held["image"].astype(np.float32) / BYTE) == held["label"]
        print(f"| {name} | {right.mean():.3f} | {_told(alone)} | {_told(beside)} |", flush=True)


if __name__ == "__main__":
    sys.exit(ended(main))
