"""Open sizes of inputs that weights fix are learned; what else is open the user may say, to every command."""

from __future__ import annotations

import time
from importlib import import_module

import click
import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.inspection import inspect
from graphprune.pipeline.settings import Settings

RNG = np.random.default_rng(0)
OPSETS = '<ir_version: 10, opset_import: ["" : 21]>'


def _model(text: str, **shapes: tuple[int, ...]) -> ir.Model:
    arrays = {name: (RNG.standard_normal(s) * 0.2).astype(np.float32) for name, s in shapes.items()}
    tensors = [ir.tensor(array, name=name) for name, array in arrays.items()]
    return ir.from_onnx_text(f"{OPSETS}\ng {text}", initializers=tensors)


def _mlp() -> ir.Model:
    return _model(
        """(float[N,D] x) => (float[N,O] y) {
            a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) e = MatMul(d, w3) f = Relu(e)
            y = MatMul(f, w4)
        }""",
        w1=(12, 32), w2=(32, 24), w3=(24, 16), w4=(16, 4),
    )  # fmt: skip


def test_a_perceptron_with_open_widths_is_cut_and_counted() -> None:
    assert [group.id for group in graphprune.find_groups(_mlp()) if not group.pin] == ["w1:1", "w2:1", "w3:1"]
    found = inspect(_mlp(), Settings())
    assert found.inputs[0].shape == ("N", 12)
    assert found.size.macs == 12 * 32 + 32 * 24 + 24 * 16 + 16 * 4
    assert graphprune.compile(_mlp(), "prune(ratio=0.5)").report.passes[0].proof.ok


def test_a_convolution_net_with_open_channels_runs_at_once() -> None:
    model = _model(
        "(float[N,C,H,W] x) => (float[N,O,P,Q] y) { a = Conv(x, w1) b = Relu(a) y = Conv(b, w2) }",
        w1=(16, 5, 3, 3), w2=(4, 16, 1, 1),
    )  # fmt: skip
    start = time.process_time()
    assert graphprune.validate(model, model).ok
    assert graphprune.compile(model, "prune(ratio=0.5)").report.passes[0].proof.ok
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("inputs", "nodes", "weights", "expected"),
    [
        ("float[N,D] x", "y = Gemm <transB = 1> (x, w)", {"w": (8, 6)}, {"x": ("N", 6)}),
        ("float[D,N] x", "y = Gemm <transA = 1> (x, w)", {"w": (6, 8)}, {"x": (6, "N")}),
        ("float[N,C,L] x", "y = Conv <group = 2> (x, w)", {"w": (8, 3, 1)}, {"x": ("N", 6, "L")}),
        ("float[N,C,L] x", "y = ConvTranspose (x, w)", {"w": (6, 4, 3)}, {"x": ("N", 6, "L")}),
        (
            "float[N,C,L] x",
            "y = BatchNormalization (x, s, s, s, v)",
            {"s": (6,), "v": (6,)},
            {"x": ("N", 6, "L")},
        ),
        ("float[N,C,L] x", "y = InstanceNormalization (x, s, s)", {"s": (6,)}, {"x": ("N", 6, "L")}),
        ("float[N,D] x", "y = LayerNormalization (x, s)", {"s": (6,)}, {"x": ("N", 6)}),
        (
            "float[T,N,D] x",
            "y = LSTM <hidden_size = 4> (x, w, r)",
            {"w": (1, 16, 6), "r": (1, 16, 4)},
            {"x": ("T", "N", 6)},
        ),
        (
            "float[N,C,L] x, float[N,C,L] z",
            "c = Concat <axis = 1> (x, z) y = Conv (c, w)",
            {"w": (8, 12, 1)},
            {"x": ("N", 6, "L"), "z": ("N", 6, "L")},
        ),
    ],
)  # fmt: skip
def test_each_operator_says_what_its_weight_fixes(
    inputs: str, nodes: str, weights: dict[str, tuple[int, ...]], expected: dict[str, tuple[int | str, ...]]
) -> None:
    model = _model(f"({inputs}) => (float y) {{ {nodes} }}", **weights)
    model.graph.outputs[0].shape = None
    normalise(model, record_of)
    found = {
        v.name: tuple(d if isinstance(d, int) else d.value for d in v.shape or ()) for v in model.graph.inputs
    }
    assert found == expected


def test_a_weight_in_a_branch_fixes_nothing() -> None:
    """The other branch may be there for another size."""
    model = ir.from_onnx_text(
        f"""{OPSETS}
        g (float[N,D] x, bool c) => (float[N,O] y)
        <float[2,4] w = {{1, 1, 1, 1, 1, 1, 1, 1}}, float[3,4] v = {{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}> {{
            y = If (c) <then_branch = t () => (float[N,O] p) {{ p = MatMul(x, w) }},
                        else_branch = e () => (float[N,O] q) {{ q = MatMul(x, v) }}>
        }}"""
    )
    normalise(model, record_of)
    shape = model.graph.inputs[0].shape
    assert shape is not None
    assert not isinstance(shape[1], int)


def test_a_given_shape_reaches_the_analysis() -> None:
    model = _model(
        "(float x) => (float y) { a = MatMul(x, w1) b = Relu(a) y = MatMul(b, w2) }", w1=(6, 16), w2=(16, 4)
    )
    for value in (model.graph.inputs[0], model.graph.outputs[0]):
        value.shape = None
    assert all(group.pin for group in graphprune.find_groups(model))
    free = [group.id for group in graphprune.find_groups(model, shape={"x": (2, 6)}) if not group.pin]
    assert free == ["w1:1"]
    result = graphprune.compile(model, "prune(ratio=0.5)", shape={"x": (2, 6)})
    assert result.report.passes[0].proof.ok


def test_given_inputs_say_at_which_size_is_counted() -> None:
    model = _model(
        "(float[N,3,H,W] x) => (float[N,4,H,W] y) { a = Conv(x, w1) y = Conv(a, w2) }",
        w1=(8, 3, 1, 1), w2=(4, 8, 1, 1),
    )  # fmt: skip
    samples = {"x": RNG.standard_normal((5, 3, 10, 12)).astype(np.float32)}
    wanted = 120 * (3 * 8 + 8 * 4)
    assert inspect(model, Settings(), inputs=samples).size.macs == wanted
    assert graphprune.bench([model], samples).models[0].size.macs == wanted
    report = graphprune.compile(model, "prune(ratio=0.5)", inputs=samples).report
    assert report.before.macs == wanted


@pytest.mark.parametrize("name", ["inspect", "explain", "compile", "bench", "validate"])
def test_every_command_that_looks_at_a_model_takes_the_same_options(name: str) -> None:
    command: click.Command = import_module(f"graphprune.cli.{name}").command
    assert {"--shape", "--fix", "--inputs"} <= {option for each in command.params for option in each.opts}


def test_a_batch_that_attention_reads_stays_open() -> None:
    """Attention of ai.onnx has no weight among its inputs, unlike the operator of the same name elsewhere."""
    model = _model(
        """(float[N,4,8] x) => (float[N,4,8] y) {
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
            y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)
        }""",
        wq=(8, 8), wk=(8, 8), wv=(8, 8),
    )  # fmt: skip
    model.opset_imports[""] = 23
    normalise(model, record_of)
    assert str(model.graph.inputs[0].shape) == "[N,4,8]"
