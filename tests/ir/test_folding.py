"""What depends on nothing is computed once, but only where the file does not grow."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of

RNG = np.random.default_rng(0)


def _model(text: str, **arrays: np.ndarray) -> ir.Model:
    tensors = [ir.tensor(array, name=name) for name, array in arrays.items()]
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 17]>\ng {text}', initializers=tensors)


def _fourier() -> ir.Model:
    """A basis of 64 x 64 from two vectors of 64, and two layers."""
    return _model(
        """(float[1,64] x) => (float[1,8] y) {
            nk = Mul(n, k) basis = Cos(nk) s = MatMul(x, basis)
            a = MatMul(s, w1) b = Relu(a) y = MatMul(b, w2)
        }""",
        n=np.arange(64, dtype=np.float32).reshape(64, 1) * np.float32(np.pi / 32),
        k=np.arange(64, dtype=np.float32).reshape(1, 64),
        w1=RNG.standard_normal((64, 32)).astype(np.float32),
        w2=RNG.standard_normal((32, 8)).astype(np.float32),
    )


def test_a_basis_made_from_vectors_is_not_written_out() -> None:
    model = _fourier()
    normalise(model, record_of)
    assert [node.op_type for node in model.graph][:2] == ["Mul", "Cos"]
    report = graphprune.compile(_fourier(), "prune(params=0.5)").report
    assert report.before.params == 64 + 64 + 64 * 32 + 32 * 8
    assert report.passes[0].proof.ok


def test_shape_arithmetic_and_what_frees_its_source_is_written_out() -> None:
    model = _model(
        """(float[2,8] x) => (float[4,4] y) {
            s = Shape(x) half = Div(s, two) t = Concat <axis = 0> (four, rest) z = Reshape(x, t)
            one = Mul(big, c) y = Add(z, one)
        }""",
        two=np.array(2), four=np.array([4]), rest=np.array([-1]),
        big=np.ones((4, 4), np.float32), c=np.array(3, np.float32),
    )  # fmt: skip
    normalise(model, record_of)
    assert [node.op_type for node in model.graph] == ["Reshape", "Add"]
