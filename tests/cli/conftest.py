"""The command line in this process, on a small model in a temporary folder, against stored output."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.cli.main import main

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = "GRAPHPRUNE_UPDATE_SNAPSHOTS"
BODY = """(float[n,3,8,8] image) => (float[n,10] logits) {
    a = Conv<pads = [1,1,1,1]>(image, conv1_weight, conv1_bias)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1]>(b, conv2_weight, conv2_bias)
    d = Add(b, c)
    e = Conv<strides = [2,2]>(d, conv3_weight, conv3_bias)
    f = Relu(e)
    g = GlobalAveragePool(f)
    h = Flatten(g)
    logits = Gemm<transB = 1>(h, fc_weight, fc_bias)
}"""
WEIGHTS = {
    "conv1_weight": (16, 3, 3, 3),
    "conv1_bias": (16,),
    "conv2_weight": (16, 16, 3, 3),
    "conv2_bias": (16,),
    "conv3_weight": (32, 16, 3, 3),
    "conv3_bias": (32,),
    "fc_weight": (10, 32),
    "fc_bias": (10,),
}


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        parts = [f"exit {self.code}"]
        parts += [
            f"--- {name}\n{text.rstrip()}"
            for name, text in (("stdout", self.out), ("stderr", self.err))
            if text
        ]
        return "\n".join(parts) + "\n"


Run = Callable[..., Outcome]


def small_model(seed: int = 0) -> ir.Model:
    """Two convolutions with a residual connection, a strided one, and a classifier."""
    rng = np.random.default_rng(seed)
    tensors = [
        ir.tensor((rng.standard_normal(shape) * 0.1).astype(np.float32), name=name)
        for name, shape in WEIGHTS.items()
    ]
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng {BODY}', initializers=tensors)
    for node in model.graph:
        node.name = f"{node.op_type}_{node.outputs[0].name}"
    for value in list(model.graph.initializers.values()):
        value.name = (value.name or "").replace("_", ".")
    return model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a command, with model.onnx in it."""
    monkeypatch.chdir(tmp_path)
    ir.save(small_model(), tmp_path / "model.onnx")
    return tmp_path


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("inspect", "model.onnx")`."""

    def call(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        return Outcome(code, *capfd.readouterr())

    return call


@pytest.fixture
def snapshot() -> Callable[[str, Outcome], None]:
    """Compare with a stored text; set GRAPHPRUNE_UPDATE_SNAPSHOTS=1 to store what is there now."""

    def check(name: str, outcome: Outcome) -> None:
        path = SNAPSHOTS / f"{name}.txt"
        text = stable(str(outcome))
        if os.environ.get(UPDATE):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no snapshot {path.name}: run with {UPDATE}=1"
        assert text == path.read_text(encoding="utf-8")

    return check


def stable(text: str) -> str:
    """Text without what differs between machines: rounding errors of kernels and versions."""
    text = re.sub(r"rounding \S+", "rounding E", text)
    return re.sub(r"graphprune \d+\.\d+\.\d+\S*", "graphprune VERSION", text)
