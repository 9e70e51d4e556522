"""Two small trained-looking nets for mask passes: convolutions, and a decoder with a head."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.pipeline.result import Result
from tests.axes.claims import weight
from tests.proof.building import model

CONV = """(float[n,3,10,10] image) => (float[n,5] logits) {
    a = Conv<pads = [1,1,1,1]>(image, stem, stem_bias)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1], strides = [2,2]>(b, main)
    d = Relu(c)
    e = Conv<pads = [1,1,1,1], group = 16>(d, depth)
    f = Conv(e, point)
    g = Add(d, f)
    h = ConvTranspose<strides = [2,2]>(g, up)
    i = Relu(h)
    j = GlobalAveragePool(i)
    k = Flatten(j)
    logits = Gemm<transB = 1>(k, fc, fc_bias)
}"""
CONV_SHAPES = {
    "stem": (8, 3, 3, 3),
    "stem_bias": (8,),
    "main": (16, 8, 3, 3),
    "depth": (16, 1, 3, 3),
    "point": (16, 16, 1, 1),
    "up": (16, 12, 2, 2),
    "fc": (5, 12),
    "fc_bias": (5,),
}
DECODER = """(int64[b,t] tokens) => (float[b,t,11] logits) {
    x = Gather(table, tokens)
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v = MatMul(x, wv)
    kt = Transpose<perm = [0, 2, 1]>(k)
    s = MatMul(q, kt)
    p = Softmax<axis = -1>(s)
    a = MatMul(p, v)
    o = MatMul(a, wo)
    y = Add(x, o)
    u = MatMul(y, up)
    r = Relu(u)
    w = MatMul(r, down)
    z = Add(y, w)
    logits = MatMul(z, head)
}"""
DECODER_SHAPES = {
    "table": (11, 16),
    "wq": (16, 16),
    "wk": (16, 16),
    "wv": (16, 16),
    "wo": (16, 16),
    "up": (16, 24),
    "down": (24, 16),
    "head": (16, 11),
}
BODY = ("wq", "wk", "wv", "wo", "up", "down")


def conv_net() -> ir.Model:
    return model(CONV, **CONV_SHAPES)


def decoder(**weights: object) -> ir.Model:
    return model(DECODER, **{**DECODER_SHAPES, **weights})


def images(count: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((count, 3, 10, 10)) + rng.standard_normal((count, 1, 1, 1))
    return {"image": base.astype(np.float32)}


def tokens(count: int = 16, length: int = 12) -> dict[str, np.ndarray]:
    return {"tokens": np.random.default_rng(0).integers(0, 11, (count, length))}


def compiled(dense: ir.Model, passes: str, calibration: dict[str, np.ndarray] | None = None) -> Result:
    """A compile, which proves every pass."""
    result = graphprune.compile(dense, passes, calibration=calibration)
    assert all(item.proof.ok for item in result.report.passes)
    return result


def zeros(result: Result, name: str) -> float:
    """Share of an initializer that is zero."""
    return float(np.mean(weight(result.model, name) == 0))
