"""A small model with three widths, and a pass that keeps the first half of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.prune.plan import Plan

WIDTHS = {"w1": (6, 8), "w2": (8, 12), "w3": (12, 16), "w4": (16, 4)}
TEXT = """(float[n,6] x) => (float[n,4] y) {
    a = MatMul(x, w1)
    b = Relu(a)
    c = MatMul(b, w2)
    d = Relu(c)
    e = MatMul(d, w3)
    f = Relu(e)
    y = MatMul(f, w4)
}"""


@dataclass(frozen=True)
class Half(Pass):
    """Keep the first half of every group."""

    name: ClassVar[str] = "half"

    def decide(self, subject: Subject, context: Context) -> Plan:
        widths = {group.id: group.size for group in subject.analysis.prunable}
        return Plan(subject.options, {name: tuple(range(n // 2)) for name, n in widths.items()}, widths)


def mlp(seed: int = 0) -> ir.Model:
    rng = np.random.default_rng(seed)
    tensors = [ir.tensor(rng.standard_normal(s).astype(np.float32), name=n) for n, s in WIDTHS.items()]
    return ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng {TEXT}', initializers=tensors)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    ir.save(mlp(), path)
    return path


Checkpoint = Callable[[int], Path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """The same graph with other weights."""

    def save(seed: int) -> Path:
        path = tmp_path / f"model{seed}.onnx"
        ir.save(mlp(seed), path)
        return path

    return save
