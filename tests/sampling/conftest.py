"""A small classifier and a small language model as ONNX text."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

PICTURE = """(float[n,3,8,8] image) => (float[n,4] logits) {
    a = Conv<pads = [1,1,1,1]>(image, conv)
    b = Relu(a)
    c = GlobalAveragePool(b)
    d = Flatten(c)
    logits = Gemm<transB = 1>(d, head, bias)
}"""
LANGUAGE = """(int64[n,t] input_ids, int64[n,t] attention_mask) => (float[n,t,11] logits) {
    a = Gather(table, input_ids)
    b = MatMul(a, hidden)
    c = Tanh(b)
    logits = MatMul(c, head)
}"""
ROWS = "(float[n,6] x) => (float[n,3] y) { h = MatMul(x, one) r = Relu(h) y = MatMul(r, two) }"


def built(body: str, **shapes: tuple[int, ...]) -> ir.Model:
    rng = np.random.default_rng(5)
    tensors = [
        ir.tensor(rng.standard_normal(shape).astype(np.float32), name=name) for name, shape in shapes.items()
    ]
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 21]>\ng {body}', initializers=tensors)
    return ir.from_proto(ir.to_proto(model))  # as read from a file: initializers get their types


@pytest.fixture
def classifier() -> ir.Model:
    return built(PICTURE, conv=(6, 3, 3, 3), head=(4, 6), bias=(4,))


@pytest.fixture
def language() -> ir.Model:
    return built(LANGUAGE, table=(11, 5), hidden=(5, 7), head=(7, 11))


@pytest.fixture
def rows() -> ir.Model:
    return built(ROWS, one=(6, 8), two=(8, 3))
