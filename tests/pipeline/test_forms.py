"""Forms that files come in: each is counted alike by every command, cut to its budget, proved, and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphprune
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings

RNG = np.random.default_rng(0)
SAMPLES = 32
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Form:
    """A graph as text, its initializers, and samples of its inputs.

    `listed` are initializers that are inputs as well; `imports` are operator sets besides the default one.
    """

    text: str
    arrays: Arrays
    samples: Mapping[str, tuple[int, ...] | np.ndarray]
    ir_version: int = 8
    opset: int = 17
    imports: tuple[tuple[str, int], ...] = ()
    listed: tuple[str, ...] = ()
    extra: tuple[TensorProto, ...] = field(default=())


def _floats(**shapes: tuple[int, ...]) -> Arrays:
    return {name: (RNG.standard_normal(s) * 0.3).astype(np.float32) for name, s in shapes.items()}


def _bytes(**shapes: tuple[int, ...]) -> Arrays:
    return {name: RNG.integers(-100, 100, shape).astype(np.int8) for name, shape in shapes.items()}


CONVS = _floats(w1=(32, 3, 3, 3), b1=(32,), w2=(32, 32, 3, 3), w3=(4, 32, 1, 1))
CONV_TEXT = """(float[1,3,10,10] x) => (float[1,4,6,6] y) {
    a = Conv(x, w1, b1) b = Relu(a) c = Conv(b, w2) d = Relu(c) y = Conv(d, w3) }"""
MLP = _floats(w1=(8, 64), w2=(64, 32), w3=(32, 4))
MLP_BODY = "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3)"
MLP_TEXT = f"(float[1,8] x) => (float[1,4] y) {{ {MLP_BODY} }}"
LINE = np.arange(16, dtype=np.float32)
IMAGE, ROW = {"x": (1, 3, 10, 10)}, {"x": (1, 8)}
STRINGS = helper.make_tensor("names", TensorProto.STRING, [4], [b"a", b"b", b"c", b"d"])

FORMS = {
    "weights are inputs, IR 3": Form(CONV_TEXT, CONVS, IMAGE, ir_version=3, opset=8, listed=tuple(CONVS)),
    "some weights are inputs": Form(CONV_TEXT, CONVS, IMAGE, ir_version=6, opset=11, listed=("w1", "w2")),
    "open widths": Form(MLP_TEXT.replace("1,8", "N,D").replace("1,4", "N,O"), MLP, {"x": (8,)}),
    "open channels": Form(
        CONV_TEXT.replace("1,3,10,10", "N,C,H,W").replace("1,4,6,6", "N,O,P,Q"), CONVS, {"x": (3, 10, 10)}
    ),
    "strings": Form(
        f"(float[1,8] x) => (float[1,4] y, string[1] word) {{ {MLP_BODY} i = ArgMax<axis=1,keepdims=0>(y) "
        "word = Gather(names, i) }",
        MLP, ROW, extra=(STRINGS,),
    ),
    "a scalar input": Form(
        "(float[1,8] x, float s) => (float[1,4] y) { a = MatMul(x, w1) b = Relu(a) e = Mul(b, s) "
        "c = MatMul(e, w2) d = Relu(c) y = MatMul(d, w3) }",
        MLP, {"x": (1, 8), "s": ()},
    ),
    "two spellings of the operator set": Form(MLP_TEXT, MLP, ROW, imports=(("ai.onnx", 17),)),
    "words are encoded": Form(
        """(string[N] s) => (float[N,4] y) {
            i = ai.onnx.ml.LabelEncoder
                <keys_strings = ["a", "b"], values_int64s = [0, 1], default_int64 = 2> (s)
            x = Gather(e, i) a = MatMul(x, w1) b = Relu(a) y = MatMul(b, w2) }""",
        _floats(e=(3, 16), w1=(16, 64), w2=(64, 4)),
        {"s": np.array(["a", "b", "c", "d"] * 8)}, imports=(("ai.onnx.ml", 2),),
    ),
    "a basis computed from vectors": Form(
        "(float[1,16] x) => (float[1,4] y) { nk = Mul(n, k) basis = Cos(nk) s = MatMul(x, basis) "
        "a = MatMul(s, w1) b = Relu(a) y = MatMul(b, w2) }",
        {"n": LINE.reshape(16, 1), "k": LINE.reshape(1, 16)}
        | _floats(w1=(16, 64), w2=(64, 4)),
        {"x": (1, 16)},
    ),
    "LayerNorm by pooling": Form(
        """(float[1,5,8] x) => (float[1,5,4] y) {
            a = MatMul(x, w1) m = GlobalAveragePool(a) d = Sub(a, m) q = Mul(d, d) v = GlobalAveragePool(q)
            u = Add(v, e) s = Sqrt(u) i = Reciprocal(s) n = Mul(d, i) o = Mul(n, g) p = Add(o, b)
            y = MatMul(p, w2) }""",
        _floats(w1=(8, 64), w2=(64, 4), g=(64,), b=(64,)) | {"e": np.array(1e-5, np.float32)},
        {"x": (1, 5, 8)},
    ),
    "a cell in a Loop": Form(
        """(float[6,1,8] x) => (float[1,4] y) {
            a = MatMul(x, w1) b = Relu(a) z = MatMul(b, w2)
            last = Loop (n, yes, h0)
                <body = body (int64 i, bool go, float[1,4] h) => (bool more, float[1,4] s) {
                    e = Gather(z, i) u = MatMul(e, w) v = MatMul(h, r) k = Add(u, v) s = Tanh(k)
                    more = Identity(go) }>
            t = MatMul(last, w3) q = Relu(t) y = MatMul(q, w4) }""",
        _floats(w1=(8, 64), w2=(64, 4), w=(4, 4), r=(4, 4), w3=(4, 64), w4=(64, 4))
        | {"n": np.array(6), "yes": np.array(True), "h0": np.zeros((1, 4), np.float32)},
        {"x": (6, 1, 8)},
    ),
    "a layer applied three times": Form(
        "(float[1,8] x) => (float[1,4] y) { a = MatMul(x, w0) b = Tanh(a) c = MatMul(b, w) d = Tanh(c) "
        "e = MatMul(d, w) f = Tanh(e) g = MatMul(f, w) h = Tanh(g) y = MatMul(h, w9) }",
        _floats(w0=(8, 32), w=(32, 32), w9=(32, 4)), ROW,
    ),
    "weights behind DequantizeLinear": Form(
        """(float[1,8] x) => (float[1,4] y) {
            v1 = DequantizeLinear(w1, s, z) a = MatMul(x, v1) b = Relu(a)
            v2 = DequantizeLinear(w2, s, z) y = MatMul(b, v2) }""",
        _bytes(w1=(8, 64), w2=(64, 4)) | {"s": np.array(0.01, np.float32), "z": np.array(0, np.int8)}, ROW,
    ),
}  # fmt: skip


def _proto(form: Form) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        f'<ir_version: {form.ir_version}, opset_import: ["" : {form.opset}]>\ng {form.text}'
    )
    for domain, version in form.imports:
        proto.opset_import.add(domain=domain, version=version)
    tensors = [numpy_helper.from_array(array, name) for name, array in form.arrays.items()]
    proto.graph.initializer.extend((*tensors, *form.extra))
    by_name = {tensor.name: tensor for tensor in tensors}
    for name in form.listed:
        proto.graph.input.append(
            helper.make_tensor_value_info(name, by_name[name].data_type, by_name[name].dims)
        )
    return proto


def _calibration(form: Form) -> Arrays:
    """Stacked samples, or rows where the batch is open."""
    return {
        name: given
        if isinstance(given, np.ndarray)
        else RNG.standard_normal((SAMPLES, *given)).astype(np.float32)
        for name, given in form.samples.items()
    }


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Form, Path]:
    """A form and the file it is saved as."""
    form = FORMS[request.param]
    path = tmp_path / "model.onnx"
    onnx.save(_proto(form), path)
    return form, path


every = pytest.mark.parametrize("source", FORMS, indirect=True)


def test_all_outside_a_loop_may_be_cut_but_what_enters_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_proto(FORMS["a cell in a Loop"]), path)
    groups = inspect(path, Settings()).groups
    assert {group.id for group in groups if not group.pin} == {"w1:1", "w3:1"}


@every
def test_inspect_and_bench_count_alike(source: tuple[Form, Path]) -> None:
    counted = inspect(source[1], Settings()).size
    assert counted == graphprune.bench([source[1]]).models[0].size
    assert counted.macs


@every
@pytest.mark.parametrize(
    "passes", [pytest.param("prune(params=0.6)", marks=pytest.mark.full), "obspa(params=0.6)"]
)
def test_a_budget_is_kept_by_a_file_that_runs(source: tuple[Form, Path], passes: str, tmp_path: Path) -> None:
    form, path = source
    small = tmp_path / "small.onnx"
    report = graphprune.compile(path, passes, small, calibration=_calibration(form)).report
    assert report.passes[0].proof.ok
    assert report.before == inspect(path, Settings()).size
    assert 0 < report.after.params <= 0.6 * report.before.params
    assert report.after == inspect(small, Settings()).size
    onnx.checker.check_model(small, full_check=not form.imports)
    assert graphprune.validate(path, small).outputs
    again = graphprune.compile(path, plan=tmp_path / "small.plan.json").proto()
    kept, told = (each.SerializeToString(deterministic=True) for each in (onnx.load(small), again))
    assert kept == told
