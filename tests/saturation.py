"""What ONNX Runtime makes of unsigned times signed bytes on x86 without VNNI, for tests on any CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from graphprune.ir.graft import Graft
from graphprune.runtime.exact import unsaturated
from graphprune.runtime.session import open_session

Bytes = npt.NDArray[np.generic]


def saturated(a: Bytes, b: Bytes) -> npt.NDArray[np.int32]:
    """a[M, K] times b[K, N] by pmaddubsw: products are added in pairs, each sum clipped to sixteen bits."""
    odd = a.shape[1] % 2
    left = np.pad(a.astype(np.int32), [(0, 0), (0, odd)])
    right = np.pad(b.astype(np.int32), [(0, odd), (0, 0)])
    pairs = left[:, 0::2, None] * right[None, 0::2] + left[:, 1::2, None] * right[None, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(1, dtype=np.int32)


def saturates() -> bool:
    """Whether this CPU does."""
    b = ir.tensor(np.full((4, 1), 127, np.int8), name="b")
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (uint8[1,4] a) => (int32[1,1] y) { y = MatMulInteger(a, b) }"""
    found = open_session(ir.from_onnx_text(text, initializers=[b])).run({"a": np.full((1, 4), 255, np.uint8)})
    return int(found["y"][0, 0]) != 4 * 255 * 127


def saturating(model: ir.Model) -> ir.Model:
    """The same model with `saturated` in place of each MatMulInteger of unsigned bytes and signed weights."""
    copy = model.clone()
    graft = Graft(copy, "saturating/")
    for node in [node for node in copy.graph if node.op_type == "MatMulInteger"]:
        a, b = node.inputs[:2]
        assert a is not None and b is not None and b.const_value is not None
        weight = b.const_value.numpy()
        if weight.dtype == np.int8:
            zero = node.inputs[2] if len(node.inputs) > 2 else graft.constant(np.array(0, np.uint8))
            assert zero is not None
            graft.supersede(node.outputs[0], _emulated(graft, a, weight, zero), set())
    return copy


def _emulated(graft: Graft, a: ir.Value, weight: Bytes, zero: ir.Value) -> ir.Value:
    odd = weight.shape[0] % 2
    right = np.pad(weight.astype(np.float32), [(0, odd), (0, 0)])  # floats hold what adds up here exactly
    pairs = graft.constant(right.reshape(1, -1, 2, weight.shape[1]))
    left = _floats(graft.after(a, "Cast", a, to=ir.DataType.FLOAT))
    even = _floats(graft.after(left, "Pad", left, graft.constant(np.array([0, 0, 0, odd]))))
    split = _floats(graft.after(even, "Reshape", even, graft.constant(np.array([-1, len(right) // 2, 2, 1]))))
    products = graft.after(split, "Mul", split, pairs)
    summed = _sum(graft, products, 2)
    ends = (graft.constant(np.array(end, np.float32)) for end in (-(2.0**15), 2.0**15 - 1))
    whole = _sum(graft, graft.after(summed, "Clip", summed, *ends), 1)
    point = graft.after(zero, "Cast", zero, to=ir.DataType.FLOAT)
    shift = graft.after(whole, "Mul", point, graft.constant(weight.sum(0, dtype=np.float32)))
    corrected = graft.after(shift, "Sub", whole, shift)
    return graft.after(corrected, "Cast", corrected, to=ir.DataType.INT32)


def _sum(graft: Graft, value: ir.Value, axis: int) -> ir.Value:
    return _floats(graft.after(value, "ReduceSum", value, graft.constant(np.array([axis])), keepdims=0))


def _floats(value: ir.Value) -> ir.Value:
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return value


NATIVE: dict[str, Callable[[ir.Model], ir.Model]] = {"saturates": saturating, "is exact": unsaturated}
"""What a CPU makes of products of bytes: both kinds, on any machine."""


def on_a_cpu_that(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session that is not exact runs as on such a CPU."""
    session = import_module("graphprune.runtime.session")
    real = session.open_session

    def opened(model: ir.Model, *, exact: bool = False, **options: object) -> object:
        return real(model if exact else NATIVE[kind](model), exact=exact, **options)

    for name in ("runtime.session", "runtime.saturation", "proof.prove", "statistics.piece"):
        monkeypatch.setattr(import_module(f"graphprune.{name}"), "open_session", opened)
