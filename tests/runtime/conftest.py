"""Small models as ONNX text; weights are random arrays by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

Build = Callable[..., ir.Model]


FOREVER = """(float[4] x) => (float[4] y) {
    n = Constant<value = int64 {4611686018427387904}>()
    go = Constant<value = bool {1}>()
    y = Loop(n, go, x) <body = b (int64 i, bool more, float[4] a) => (bool again, float[4] z) {
        again = Identity(more)
        z = Add(a, a)
    }>
}"""


@pytest.fixture
def build() -> Build:
    """`build("(float[b,4] x) => (float[b,8] y) { y = MatMul(x, w) }", w=(4, 8))`."""

    def model(body: str, opset: int = 21, **weights: np.ndarray | tuple[int, ...]) -> ir.Model:
        rng = np.random.default_rng(7)
        tensors = []
        for name, weight in weights.items():
            array = (
                rng.standard_normal(weight).astype(np.float32)
                if isinstance(weight, tuple)
                else np.asarray(weight)
            )
            tensors.append(ir.tensor(array, name=name))
        header = f'<ir_version: 10, opset_import: ["" : {opset}, "com.example" : 1]>\ng '
        return ir.from_onnx_text(header + body, initializers=tensors)

    return model


@pytest.fixture
def endless(build: Build) -> ir.Model:
    """A Loop of 2^62 trips."""
    return build(FOREVER)
