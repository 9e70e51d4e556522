"""Rows of other frameworks, and of trained models as their makers published them; needs no torch."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.zoo.entry import Entry, Exporter, Library
from tools.zoo.frameworks import jax_nets, keras_nets, paddle_nets, sklearn_nets, trained
from tools.zoo.frameworks.written import Written
from tools.zoo.outcome import TOLERANCE, Export, ExportMismatchError


@dataclass(frozen=True)
class Framework:
    """How the rows of one framework come to be.

    Attributes:
        exporter: what the table calls the converter.
        opset: that the converter writes.
        needs: packages that have to be importable.
        install: what makes them so; TensorFlow, JAX and Paddle want an environment of their own.
        models: what `write` knows.
        write: exports one of them.
    """

    exporter: Exporter
    opset: int
    needs: tuple[str, ...]
    install: str
    models: tuple[str, ...]
    write: Callable[[str, Path], Written | None]


FRAMEWORKS: dict[Library, Framework] = {
    "sklearn": Framework(
        "skl2onnx",
        21,
        ("sklearn", "skl2onnx"),
        "scikit-learn skl2onnx onnxruntime",
        ("classifier", "regressor"),
        sklearn_nets.write,
    ),
    "keras-torch": Framework(
        "keras",
        20,
        ("keras", "torch"),
        "keras torch==2.13.0 onnxscript onnxruntime",
        tuple(keras_nets.NETS),
        functools.partial(keras_nets.write, "torch"),
    ),
    "keras-tensorflow": Framework(
        "tf2onnx",
        15,
        ("keras", "tensorflow", "tf2onnx"),
        "tensorflow-cpu tf2onnx keras onnxruntime",
        tuple(keras_nets.NETS),
        functools.partial(keras_nets.write, "tensorflow"),
    ),
    "jax": Framework(
        "jax2onnx",
        23,
        ("jax2onnx", "flax"),
        "jax2onnx flax onnxruntime",
        tuple(jax_nets.NETS),
        jax_nets.write,
    ),
    "paddle": Framework(
        "paddle2onnx",
        17,
        ("paddle", "paddle2onnx"),
        "paddlepaddle paddle2onnx onnxruntime setuptools",
        tuple(paddle_nets.NETS),
        paddle_nets.write,
    ),
    "trained": Framework("publisher", 0, (), "", trained.NAMES, trained.write),
}


def _rows() -> Iterator[Entry]:
    for library, framework in FRAMEWORKS.items():
        for model in framework.models:
            name = f"{library}_{model}".replace("-", "_")
            yield Entry(name, library, model, framework.exporter, framework.opset, "other", 0)


ENTRIES: tuple[Entry, ...] = tuple(_rows())


def missing(entry: Entry) -> str:
    """Which packages of the row this interpreter lacks, and how to get them; empty if it has them all."""
    framework = FRAMEWORKS.get(entry.library)
    if framework is None or all(importlib.util.find_spec(package) for package in framework.needs):
        return ""
    return f"needs {' and '.join(framework.needs)} (pip install {framework.install})"


def export(entry: Entry, path: Path) -> Export:
    """Writes the row's ONNX file, or raises and leaves none.

    Raises:
        ExportMismatchError: the file runs but disagrees with its framework.
        Exception: whatever the converter raised.
    """
    start = time.process_time()
    temporary = path.with_name(f".{path.stem}.tmp.onnx")
    try:
        written = FRAMEWORKS[entry.library].write(entry.model, temporary)
        error, spread = (0.0, 1.0) if written is None else _compare(written, temporary)
        if not error < TOLERANCE:
            raise ExportMismatchError(f"differs from its framework by {error:.1e} of the largest output")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Export(error, spread, path.stat().st_size / 1e6, time.process_time() - start)


def _compare(written: Written, path: Path) -> tuple[float, float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    results = session.run(None, dict(zip(names, written.inputs, strict=True)))
    expected = written.expected
    actual = next((item for item in results if np.shape(item) == expected.shape), None)
    if actual is None:
        raise ExportMismatchError(f"no output has shape {list(expected.shape)}")
    scale = float(np.abs(expected).max()) or 1.0
    spread = float(np.abs(expected[0] - expected[1]).max()) / scale
    return float(np.abs(expected - actual).max()) / scale, spread
