"""A model as a differentiable function: what goes in, what comes out, and what is written back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.errors import ArgumentError, DataError
from graphprune.runtime.compare import agreement
from graphprune.runtime.session import open_session
from tests.autograd.nets import digits, fed, mlp, residual
from tests.ops.exotic_graphs import floats

pytestmark = pytest.mark.zoo


def test_a_trained_step_is_written_back_and_runs_alike_in_onnx_runtime() -> None:
    from graphprune.autograd import Differentiable

    model = digits()
    feeds = {model.graph.inputs[0].name or "": floats(*_concrete(model))}
    model.metadata_props["from"] = "here"
    before = {name: value.const_value.numpy().copy() for name, value in model.graph.initializers.items()}  # type: ignore[union-attr]
    net = Differentiable(model)
    parameters = net.trainable()
    sum(output.square().sum() for output in net.run(feeds).values()).backward()
    for tensor in parameters.values():
        tensor.data -= 0.01 * tensor.grad
    written = net.written()
    assert agreement(open_session(written).run(feeds), net.arrays(feeds)).ok
    assert not agreement(open_session(model).run(feeds), net.arrays(feeds)).ok
    assert written.graph.initializers.keys() == model.graph.initializers.keys()
    assert written.metadata_props["from"] == "here"
    assert [node.name for node in written.graph] == [node.name for node in model.graph]
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None and np.array_equal(value.const_value.numpy(), before[name])


def _concrete(model: ir.Model) -> list[int]:
    return [size if isinstance(size, int) else 2 for size in model.graph.inputs[0].shape or ()]


def test_only_named_parameters_are_trained_and_a_wrong_name_says_which_there_are() -> None:
    from graphprune.autograd import Differentiable

    case = mlp()
    net = Differentiable(case.model())
    assert list(net.trainable(["w1"])) == ["w1"]
    net.run(fed(case))["y"].sum().backward()
    assert [name for name, tensor in net.parameters.items() if tensor.grad is not None] == ["w1"]
    with pytest.raises(ArgumentError, match="no floating initializer is named 'w9'") as error:
        net.trainable(["w9"])
    assert "did you mean" in error.value.hint


def test_a_value_that_is_fed_needs_nothing_before_it() -> None:
    from graphprune.autograd import Differentiable

    case = mlp()
    net = Differentiable(case.model())
    whole = net.run(fed(case), ["r0", "y"])
    behind = net.run({"r0": whole["r0"]})
    assert behind.keys() == {"y"} and bool((behind["y"] == whole["y"]).all())
    with pytest.raises(DataError, match="no value for the input 'x'"):
        net.run({})
    with pytest.raises(DataError, match="the model has no value named 'r7'"):
        net.run(fed(case), ["r7"])


def test_a_gate_multiplies_a_value_and_has_a_gradient() -> None:
    import torch

    from graphprune.autograd import Differentiable

    case = mlp()
    net = Differentiable(case.model())
    gate = torch.ones(6, requires_grad=True)
    plain, gated = net.run(fed(case))["y"], net.run(fed(case), gates={"r0": gate})["y"]
    assert torch.equal(plain, gated)
    (slope,) = torch.autograd.grad(gated.sum(), gate)
    shut = torch.ones(6)
    shut[2] = 1 + 1e-2
    moved = net.run(fed(case), gates={"r0": shut})["y"].sum()
    assert float(moved - gated.sum()) == pytest.approx(1e-2 * float(slope[2]), rel=0.05)


@pytest.mark.parametrize("segments", [2, 3, 8])
def test_segments_change_no_number_and_keep_fewer(segments: int) -> None:
    import torch

    from graphprune.autograd import Differentiable

    case = residual(8, 16, 64)
    found, kept = [], []
    for count in (0, segments):
        net = Differentiable(case.model(), segments=count)
        parameters = net.trainable()
        held: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.numel()) or t, lambda t: t
        ):
            loss = next(iter(net.run(fed(case)).values())).square().sum()
        loss.backward()
        found.append({name: tensor.grad for name, tensor in parameters.items()})
        kept.append(sum(held))
    assert all(torch.equal(slope, found[1][name]) for name, slope in found[0].items())
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"device": "gpu"}, "no device is named 'gpu'"),
        ({"precision": "double"}, "no precision is named 'double'"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, str], why: str) -> None:
    from graphprune.autograd import Differentiable

    with pytest.raises(ArgumentError, match=why):
        Differentiable(mlp().model(), **options)  # type: ignore[arg-type]


def test_functions_of_a_model_are_run_and_stay_in_what_is_written() -> None:
    from graphprune.autograd import Differentiable

    text = """
    <ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    g (float[2, 3] x) => (float[2, 3] y) { y = own.twice(x) }
    <domain: "own", opset_import: ["" : 21]>
    twice (a) => (b) { b = Add(a, a) }
    """
    model = ir.from_onnx_text(text)
    net, x = Differentiable(model), floats(2, 3)
    assert np.array_equal(net.arrays({"x": x})["y"], x + x)
    assert len(net.written().functions) == 1 and model.graph[0].op_type == "twice"


BRANCHES = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2, 3] x, bool p) => (float[2, 3] y) {
    y = If(p) <
        then_branch = a () => (float[2, 3] s) <float[3] w = {1, 2, 3}> { s = Mul(x, w) },
        else_branch = b () => (float[2, 3] t) <float[3] w = {4, 5, 6}> { t = Mul(x, w) }
    >
}
"""


def test_weights_of_two_branches_that_share_a_name_stay_apart() -> None:
    from graphprune.autograd import Differentiable

    net, x = Differentiable(ir.from_onnx_text(BRANCHES)), floats(2, 3)
    assert len(net.parameters) == 2
    for taken, weight in ((True, [1, 2, 3]), (False, [4, 5, 6])):
        assert np.array_equal(net.arrays({"x": x, "p": np.array(taken)})["y"], x * np.float32(weight))
    for tensor in net.parameters.values():
        tensor += 1
    written = open_session(net.written())
    for taken, weight in ((True, [2, 3, 4]), (False, [5, 6, 7])):
        assert np.array_equal(written.run({"x": x, "p": np.array(taken)})["y"], x * np.float32(weight))
