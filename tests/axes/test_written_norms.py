"""A LayerNorm in primitive operators is cut exactly by default, unless ONNX Runtime fuses it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

import graphprune

MEAN = {"reduce": "ReduceMean <axes = [-1]>", "pool": "GlobalAveragePool"}
SQUARE = {"pow": "q = Pow(d, two)", "product": "q = Mul(d, d)"}
ROOT = {
    "div": "s = Sqrt(u) n = Div(d, s)",
    "reciprocal": "s = Sqrt(u) i = Reciprocal(s) n = Mul(d, i)",
    "power": "i = Pow(u, half) n = Mul(d, i)",
}
AFFINE = {"affine": "o = Mul(n, g) p = Add(o, b)", "plain": "p = Identity(n)"}
FORMS = [
    (mean, square, root, affine)
    for mean in MEAN for square in SQUARE for root in ROOT for affine in AFFINE
]  # fmt: skip
FUSED = ("reduce", "pow", "div", "affine")


def _model(mean: str, square: str, root: str, affine: str) -> ir.Model:
    rng = np.random.default_rng(0)
    arrays = {"w1": (6, 8), "w2": (8, 4), "g": (8,), "b": (8,)}
    tensors = [ir.tensor(rng.standard_normal(s).astype(np.float32), name=n) for n, s in arrays.items()]
    numbers = {"two": 2, "half": -0.5, "e": 1e-5}
    tensors += [ir.tensor(np.array(x, np.float32), name=n) for n, x in numbers.items()]
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        norm (float[2,5,6] x) => (float[2,5,4] y) {{
            a = MatMul(x, w1) m = {MEAN[mean]}(a) d = Sub(a, m) {SQUARE[square]} v = {MEAN[mean]}(q)
            u = Add(v, e) {ROOT[root]} {AFFINE[affine]} y = MatMul(p, w2)
        }}"""
    read = set(re.findall(r"\w+", text))
    return ir.from_onnx_text(text, initializers=[tensor for tensor in tensors if tensor.name in read])


def _fuses(model: ir.Model, path: Path) -> bool:
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    proto = ir.to_proto(model).SerializeToString()
    ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    return any(node.op_type == "LayerNormalization" for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_pinned_by_default_is_what_one_kernel_runs(form: tuple[str, str, str, str], tmp_path: Path) -> None:
    found = graphprune.find_groups(_model(*form))
    assert all(group.pin for group in found) == _fuses(_model(*form), tmp_path / "fused.onnx")


@pytest.mark.parametrize("form", [form for form in FORMS if form != FUSED], ids="-".join)
def test_the_others_are_cut_exactly(form: tuple[str, str, str, str]) -> None:
    step = graphprune.compile(_model(*form), "prune(ratio=0.4, align=1)").report.passes[0]
    assert step.proof.ok
    assert step.proof.inexact == ()
    assert [(group.width, group.kept) for group in step.groups if not group.pin] == [(8, 5)]


def test_a_pooled_norm_can_be_sliced_when_asked() -> None:
    text = "prune(ratio=0.4, align=1, layernorm=slice, allow-inexact=true)"
    step = graphprune.compile(_model("pool", "product", "reciprocal", "affine"), text).report.passes[0]
    assert step.proof.ok
    assert step.proof.inexact


def test_pooling_over_a_width_is_the_mean_of_it() -> None:
    rng = np.random.default_rng(0)
    arrays = {"w1": (6, 8), "w2": (1, 4)}
    tensors = [ir.tensor(rng.standard_normal(s).astype(np.float32), name=n) for n, s in arrays.items()]
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,5,6] x) => (float[2,5,4] y) {
            a = MatMul(x, w1) r = Relu(a) m = GlobalAveragePool(r) y = MatMul(m, w2)
        }""",
        initializers=tensors,
    )
    assert [group.size for group in graphprune.find_groups(model) if not group.pin] == [8]
    assert graphprune.compile(model, "prune(ratio=0.5, align=1)").report.passes[0].proof.ok
