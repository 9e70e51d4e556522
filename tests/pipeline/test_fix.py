"""Inputs that become constants, and the branches that they decide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprune
from graphprune.errors import ArgumentError, DataError, GraphpruneError, PromiseError
from graphprune.ir.decided import take_branches
from graphprune.ir.fixed import fix_inputs
from graphprune.ir.normalise import normalise
from graphprune.ops import record_of
from graphprune.pipeline.recipe import parse
from graphprune.runtime.session import open_session

from .conftest import Half

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
# Two rates with weights of their own, which have the same names in both branches, and one that both read.
TWO_RATES = (
    HEAD
    + """g (float[n,6] x, int64 rate, float[2] gains) => (float[n,4] y, float[n,6] z) {
    wanted = Constant<value = int64 {16}>()
    is_wide = Equal(rate, wanted)
    gain = ReduceSum<keepdims = 0>(gains)
    scaled = Mul(x, gain)
    y, z = If (is_wide) <
        then_branch = wide () => (float[n,4] out, float[n,6] x2) {
            hidden = MatMul(scaled, wide_in)
            active = Relu(hidden)
            out = MatMul(active, wide_out)
            x2 = Identity(x)
        },
        else_branch = narrow () => (float[n,4] out, float[n,6] scaled2) {
            hidden = MatMul(scaled, narrow_in)
            active = Relu(hidden)
            out = MatMul(active, narrow_out)
            scaled2 = Neg(scaled)
        }
    >
}"""
)
SHAPES = {"wide_in": (6, 16), "wide_out": (16, 4), "narrow_in": (6, 8), "narrow_out": (8, 4)}
GAINS = np.array([0.5, 1.5], np.float32)


def two_rates() -> ir.Model:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return ir.from_onnx_text(TWO_RATES, initializers=[ir.tensor(a, name=n) for n, a in arrays.items()])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    ir.save(two_rates(), path)
    return path


def outputs(model: Path | ir.Model, optimise: bool = True, **feeds: object) -> dict[str, np.ndarray]:
    session = open_session(model, optimise=optimise)
    return session.run({name: np.asarray(array) for name, array in feeds.items()})


@pytest.mark.parametrize(("rate", "width", "left"), [(16, 16, "wide_in"), (8, 8, "narrow_in")])
def test_the_branch_that_a_fixed_input_decides_is_pruned_alone(
    model: Path, tmp_path: Path, rate: int, width: int, left: str
) -> None:
    out = tmp_path / "small.onnx"
    before = model.read_bytes()
    result = graphprune.compile(model, Half(), out, fix={"rate": rate, "gains": GAINS})
    assert model.read_bytes() == before
    (group,) = (each for each in result.report.passes[0].groups if not each.pin)
    assert (group.width, group.kept) == (width, width // 2)
    assert [value.name for value in result.model.graph.inputs] == ["x"]
    assert left in result.model.graph.initializers and len(result.model.graph.initializers) == 3
    assert "If" not in {node.op_type for node in result.model.graph}
    assert result.report.fixed == {"rate": rate, "gains": [0.5, 1.5]}
    assert result.report.warnings == ()


def test_no_passes_write_the_model_with_what_is_fixed(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide.onnx"
    graphprune.compile(model, "", out, fix={"rate": 16, "gains": 2.0})
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    wanted = outputs(model, x=x, rate=np.int64(16), gains=np.full(2, 2.0, np.float32))
    found = outputs(out, x=x)
    assert found.keys() == wanted.keys() == {"y", "z"}
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)
    plan = json.loads((tmp_path / "wide.plan.json").read_text())
    assert plan["fixed"] == {"rate": 16, "gains": [2.0, 2.0]} and plan["passes"] == []


def test_a_plan_fixes_what_its_compile_fixed(model: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first.onnx", tmp_path / "again.onnx"
    fix = {"rate": 8, "gains": [0.5, 1.5]}
    graphprune.compile(model, Half(), first, fix=fix)
    graphprune.compile(model, output=again, plan=tmp_path / "first.plan.json")
    assert first.read_bytes() == again.read_bytes()
    graphprune.compile(model, plan=tmp_path / "first.plan.json", fix=fix)
    graphprune.compile(model, "", tmp_path / "even.onnx", fix={"rate": 8, "gains": [2.0, 2.0]})
    graphprune.compile(model, plan=tmp_path / "even.plan.json", fix={"rate": 8, "gains": 2})
    with pytest.raises(ArgumentError, match="other fixed inputs"):
        graphprune.compile(model, plan=tmp_path / "first.plan.json", fix={"rate": 16})


def test_samples_may_hold_what_is_fixed_and_nothing_else(model: Path) -> None:
    x = np.random.default_rng(2).standard_normal((8, 6)).astype(np.float32)
    fix = {"rate": 16, "gains": GAINS}
    good = {"x": x, "rate": np.int64(16), "gains": np.tile(GAINS, (8, 1))}
    for arrays in ({"x": x}, good):
        text = "prune(ratio=0.5, criterion=wanda)"
        report = graphprune.compile(model, text, calibration=arrays, fix=fix).report
        assert report.passes[0].proof is not None and report.passes[0].proof.ok
    for name, array in (("rate", np.int64(8)), ("gains", np.ones(2, np.float32)), ("rate", np.zeros(3))):
        with pytest.raises(DataError, match=f"'{name}' is not what the model itself holds"):
            graphprune.compile(model, Half(), calibration={**good, name: array}, fix=fix)


BAD = {
    "no such input": {"rat": 16},
    "holds int64": {"rate": 16.5},
    "holds no numbers": {"rate": "wide"},
    "has shape \\(\\)": {"rate": [16]},
    "has shape \\(2\\)": {"gains": [1.0, 2.0, 3.0]},
    "holds float": {"gains": [1.0, float("nan")]},
    "True holds no numbers": {"rate": True},
    "is no array": {"gains": [1.0, [2.0]]},
    "99999999999999999999999 holds no numbers": {"rate": 99999999999999999999999},
    "every input": {"rate": 16, "gains": 1.0, "x": np.ones((2, 6), np.float32)},
    "has shape \\(\\?, 6\\)": {"x": 1.0},
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_an_input(model: Path, tmp_path: Path, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        graphprune.compile(model, Half(), tmp_path / "small.onnx", fix=BAD[message])  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [model]


def test_one_number_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    text = "g (float[n,6] x, float[1000,1000,100] z) => (float[n,6] y) { y = Relu(x) }"
    ir.save(ir.from_onnx_text(HEAD + text), path)
    with pytest.raises(ArgumentError, match="more than 67108864 elements"):
        graphprune.compile(path, "", tmp_path / "small.onnx", fix={"z": 0.0})


def test_a_reproducer_repeats_what_was_fixed(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    with pytest.raises(GraphpruneError):
        graphprune.compile(
            model, "prune(only=[nothing])", fix={"rate": 16, "gains": GAINS}, reproducer=folder
        )
    recipe = parse((folder / "recipe.toml").read_text())
    assert recipe.options["fix"] == {"rate": 16, "gains": [0.5, 1.5]}
    for text in ('[options.fix]\nrate = "x"', "[options.fix]\nrate = [1, [true, {}]]"):
        with pytest.raises(ArgumentError, match="'rate' holds no numbers"):
            parse(f'pipeline = ""\n{text}')


# A program of Ifs: at every level a branch adds, hands through what is outside, or decides again.
CONDITIONS = ("flag", "constant", "rank", "data")
Program = st.recursive(
    st.sampled_from(["add", "weight", "outer", "weight only"]),
    lambda inner: st.tuples(st.sampled_from(CONDITIONS), st.booleans(), inner, inner),
    max_leaves=8,
)


def branch(program: object, outer: ir.Value, flag: ir.Value, name: str) -> ir.Graph:
    """A subgraph without inputs that computes one float[n,3]; names are the same in sibling branches."""
    weight = ir.Value(name=f"{name}w", shape=ir.Shape([3]), type=ir.TensorType(ir.DataType.FLOAT))
    number = np.arange(3, dtype=np.float32) + len(repr(program))
    weight.const_value = ir.tensor(number, name=weight.name)
    nodes: list[ir.Node] = []

    def add(op_type: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes)  # type: ignore[arg-type]
        node.outputs[0].name = f"{name}{op_type}{len(nodes)}"
        nodes.append(node)
        return node.outputs[0]

    weights = [weight]
    if program == "add":
        result = add("Add", outer, outer)
    elif program == "weight":
        result = add("Mul", outer, weight)
    elif program == "outer":
        result, weights = add("Identity", outer), []
    elif program == "weight only":
        result = add("Expand", weight, add("Shape", outer))
    else:
        kind, value, one, two = program  # type: ignore[misc]
        middle = add("Sub", outer, weight)
        known = ir.tensor(np.array(value), name="known")
        condition = {
            "flag": lambda: flag,
            "constant": lambda: add("Constant", value=known),
            "rank": lambda: add("Equal", add("Size", add("Shape", outer)), add("Constant", value_int=2)),
            "data": lambda: add(
                "Greater", add("ReduceSum", outer, keepdims=0), add("Constant", value_float=0.0)
            ),
        }[kind]()
        sides = {"then_branch": one, "else_branch": two}
        bodies = {side: branch(each, middle, flag, f"{name}i") for side, each in sides.items()}
        result = add("If", condition, **bodies)
    result.type, result.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None, 3])
    return ir.Graph([], [result], nodes=nodes, initializers=weights, name=f"{name}graph")


def program_model(program: object) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape(["n", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    flag = ir.Value(name="flag", shape=ir.Shape([]), type=ir.TensorType(ir.DataType.BOOL))
    body = branch(("flag", True, program, "add"), x, flag, "b")
    body.inputs.extend([x, flag])
    body.opset_imports[""] = 21
    return ir.Model(body, ir_version=10)


@settings(max_examples=60, deadline=None)
@given(program=Program, flag=st.booleans())
def test_taking_branches_changes_no_result(program: object, flag: bool) -> None:
    proto = ir.to_proto(program_model(program))
    x = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
    # Optimised, ONNX Runtime 1.31 loses captures of a constant If within a constant If.
    wanted = outputs(ir.from_proto(proto), optimise=False, x=x, flag=np.array(flag))
    fixed = ir.from_proto(proto)
    fix_inputs(fixed, {"flag": flag})
    normalise(fixed, record_of)
    assert "data" in repr(program) or "If" not in {node.op_type for node in fixed.graph}
    found = outputs(fixed, x=x)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_if_that_data_decides_stays() -> None:
    model = program_model(("data", True, "add", "weight"))
    take_branches(model, record_of)
    assert sum(node.op_type == "If" for node in model.graph.all_nodes()) == 2


def test_a_plan_of_another_model_is_named_as_that(model: Path, tmp_path: Path) -> None:
    graphprune.compile(model, Half(), tmp_path / "small.onnx", fix={"rate": 8})
    with pytest.raises(
        PromiseError, match="another graph: it fixes the input 'rate', which this model does not"
    ):
        graphprune.compile(tmp_path / "small.onnx", plan=tmp_path / "small.plan.json")
