"""Residual sublayers: which branches may go, which may not and why; a removal proves itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

import graphprune
from graphprune.axes import Analysis
from graphprune.axes.sublayers import find_sublayers, gone_with
from graphprune.errors import PromiseError
from graphprune.ir.check import check
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.inputs import runnable_inputs

from .claims import sketch

C, F = 6, 9
X, Y = f"float[n,t,{C}] x", "float[n,t,3] y"
NORM = {"gain": np.ones(C, np.float32) * 1.5, "shift": np.full(C, 0.1, np.float32)}
WEIGHTS = {"w0": (C, C), "head": (C, 3)} | {
    f"{c}{n}": s for n in range(3) for c, s in (("u", (C, F)), ("d", (F, C)))
}


def mlp(number: int, source: str, out: str) -> str:
    return f"""h{number} = MatMul({source}, u{number})\n g{number} = Relu(h{number})
        {out} = MatMul(g{number}, d{number})\n"""


def norm(source: str, out: str) -> str:
    return f"{out} = LayerNormalization({source}, gain, shift)\n"


def built(body: str, inputs: str = X, outputs: str = Y, **extra: object) -> Analysis:
    text = f"({inputs}) => ({outputs}) {{ s = MatMul(x, w0)\n {body} y = MatMul(z, head) }}"
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return sketch(text, opset=18, **{k: v for k, v in (WEIGHTS | NORM | extra).items() if k in words})


PRE = (
    norm("s", "n0")
    + mlp(0, "n0", "b0")
    + "r0 = Add(s, b0)\n"
    + norm("r0", "n1")
    + mlp(1, "n1", "b1")
    + "z = Add(b1, r0)\n"
)
POST = (
    mlp(0, "s", "b0")
    + "a0 = Add(s, b0)\n"
    + norm("a0", "r0")
    + mlp(1, "r0", "b1")
    + "a1 = Add(b1, r0)\n"
    + norm("a1", "z")
)
SANDWICH = norm("s", "n0") + mlp(0, "n0", "m0") + norm("m0", "b0") + "z = Add(s, b0)\n"
PARALLEL = norm("s", "n0") + mlp(0, "n0", "b0") + mlp(1, "n0", "b1") + "sum = Add(b0, b1)\n z = Add(sum, s)\n"
SIDE_BY_SIDE = norm("s", "n0") + mlp(0, "n0", "b0") + mlp(1, "n0", "b1") + "r = Add(s, b0)\n z = Add(r, b1)\n"
FORMS = {"pre": PRE, "post": POST, "sandwich": SANDWICH, "parallel": PARALLEL, "side by side": SIDE_BY_SIDE}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_residual_branch_is_found_and_may_go(name: str) -> None:
    found = built(FORMS[name])
    names = [item.name for item in find_sublayers(found).found]
    assert names == (["b0"] if name == "sandwich" else ["b0", "b1"])
    for gone in [names[:1], names[1:], names]:
        assert_removed(found, gone)


def assert_removed(found: Analysis, gone: list[str]) -> ir.Model:
    """The removal checks, proves itself, and nothing of the branches is left."""
    plan = Plan(found.options, bypassed=tuple(gone))
    small = rewrite(found.model, found, plan)
    check(small)
    proof = prove(found.model, found, plan, small, [runnable_inputs(found.model)])
    assert proof.ok, proof.details
    read = {value.name for node in small.graph for value in node.inputs if value is not None}
    assert not {f"{letter}{name[1]}" for name in gone for letter in "ud"} & read
    assert set(small.graph.initializers) == {n for n in read if n in found.model.graph.initializers}
    return small


def test_a_branch_removed_from_a_parallel_block_leaves_the_other() -> None:
    small = assert_removed(built(PARALLEL), ["b1"])
    assert [node.op_type for node in small.graph].count("Add") == 1
    assert [node.op_type for node in assert_removed(built(PARALLEL), ["b0", "b1"]).graph] == [
        "MatMul",
        "MatMul",
    ]


def test_units_of_other_layers_may_go_at_the_same_time() -> None:
    found = built(PRE)
    plan = Plan(found.options, {"u0:1": (0, 2), "u1:1": (1, 5)}, {"u0:1": F, "u1:1": F}, bypassed=("b1",))
    proof = prove(found.model, found, plan, rewrite(found.model, found, plan), [runnable_inputs(found.model)])
    assert proof.ok, proof.details


def test_convolution_blocks_with_an_identity_shortcut() -> None:
    text = """(float[n,3,8,8] x) => (float[n,4] y) { s = Conv <pads = [1,1,1,1]> (x, k0)
        a = Conv <pads = [1,1,1,1]> (s, k1)\n b = Relu(a)\n c = Conv <pads = [1,1,1,1]> (b, k2)
        e = Add(c, s)\n f = Relu(e)\n p = Conv <strides = [2,2]> (f, k3)
        q = Conv <strides = [2,2]> (f, k4)\n z = Add(p, q)\n m = GlobalAveragePool(z)\n l = Flatten(m)
        y = MatMul(l, w) }"""
    found = sketch(
        text, k0=(5, 3, 3, 3), k1=(7, 5, 3, 3), k2=(5, 7, 3, 3), k3=(4, 5, 1, 1), k4=(4, 5, 1, 1), w=(4, 4)
    )
    assert [item.name for item in find_sublayers(found).found] == ["c"]
    plan = Plan(found.options, bypassed=("c",))
    small = rewrite(found.model, found, plan)
    assert prove(found.model, found, plan, small, [runnable_inputs(found.model)]).ok
    assert [n.op_type for n in small.graph].count("Conv") == 3


def test_arithmetic_and_gates_are_no_sublayers() -> None:
    """The tanh form of GELU adds something to its input, too, but holds no weights."""
    body = "c = Mul(s, s)\n e = Mul(c, s)\n t = Add(s, e)\n z = Tanh(t)\n"
    assert not find_sublayers(built(body)).found


def test_a_graph_output_inside_a_branch_holds_it_back() -> None:
    found = built(PRE, outputs=f"{Y}, float[n,t,{F}] g0")
    assert [item.name for item in find_sublayers(found).found] == ["b1"]
    assert find_sublayers(found).reasons == {"b0": "graph output 'g0' hangs on it"}


def test_a_sum_that_is_an_output_keeps_its_branch() -> None:
    found = built(PRE, outputs=f"{Y}, float[n,t,{C}] r0")
    assert find_sublayers(found).reasons == {"b0": "its sum is the graph output 'r0'"}


CACHE = f"""k = MatMul(s, wk)\n now = Concat <axis = 1> (past, k)\n kt = Transpose <perm = [0, 2, 1]> (now)
    q = MatMul(s, wq)\n a = MatMul(q, kt)\n p = Softmax <axis = -1> (a)\n v = MatMul(p, now)
    o = MatMul(v, wo)\n r = Add(s, o)\n {mlp(0, "r", "b0")} z = Add(r, b0)\n"""
CACHED = {"wk": (C, 4), "wq": (C, 4), "wo": (4, C)}
INPUTS, OUTPUTS = f"{X}, float[n,p,4] past", f"{Y}, float[n,all,4] now"


def test_the_cache_of_a_removed_layer_goes_with_it() -> None:
    found = built(CACHE, INPUTS, OUTPUTS, **CACHED)
    assert [item.name for item in find_sublayers(found).found] == ["o", "b0"]
    plan = Plan(found.options, bypassed=("o",))
    small = rewrite(found.model, found, plan)
    check(small)
    assert [v.name for v in small.graph.inputs] == ["x"] and [v.name for v in small.graph.outputs] == ["y"]
    assert prove(found.model, found, plan, small, [runnable_inputs(found.model)]).ok


def test_a_cache_that_others_measure_keeps_its_layer() -> None:
    body = CACHE.replace(
        "z = Add(r, b0)",
        "zz = Add(r, b0)\n l = Shape(past)\n lf = Cast <to = 1> (l)\n ls = ReduceSum <keepdims = 0> (lf)\n"
        "z = Mul(zz, ls)",
    )
    found = built(body, INPUTS, OUTPUTS, **CACHED)
    assert find_sublayers(found).reasons == {"o": "its cache input 'past' is read elsewhere"}


def test_a_compile_says_which_cache_is_gone_and_the_next_pass_does_without_it() -> None:
    model = built(CACHE, INPUTS, OUTPUTS, **CACHED).model
    result = graphprune.compile(
        model, "depth(criterion=reverse, only=o, remove=1), prune(ratio=0.5, align=1)"
    )
    assert "input 'past' is gone with its layer" in result.report.warnings
    assert [v.name for v in result.model.graph.inputs] == ["x"]


def test_a_plan_that_removes_what_is_no_sublayer_is_illegal() -> None:
    found = built(PRE, outputs=f"{Y}, float[n,t,{F}] g0")
    plan = Plan(found.options, bypassed=("b0", "nothing"))
    proof = prove(found.model, found, plan, found.model, [runnable_inputs(found.model)])
    assert not proof.ok
    assert any("'b0', which cannot go: graph output 'g0' hangs on it" in line for line in proof.failures)
    assert any("'nothing', which cannot go: there is none" in line for line in proof.failures)


def test_a_branch_that_is_gone_without_a_plan_fails_the_proof() -> None:
    found = built(PRE)
    wrong = rewrite(found.model, found, Plan(found.options, bypassed=("b0", "b1")))
    plan = Plan(found.options, bypassed=("b0",))
    assert not prove(found.model, found, plan, wrong, [runnable_inputs(found.model)]).ok


def test_a_branch_that_stays_although_the_plan_removes_it_fails_the_proof() -> None:
    found = built(PRE)
    plan = Plan(found.options, bypassed=("b0",))
    assert not prove(found.model, found, plan, found.model, [runnable_inputs(found.model)]).ok


def test_a_plan_file_keeps_the_names() -> None:
    plan = Plan(bypassed=("b1", "b0"))
    assert Plan.from_json(plan.to_json()).bypassed == ("b1", "b0") and not plan.empty


def test_everything_that_goes_with_sublayers_is_counted_once() -> None:
    found = built(PARALLEL)
    both = find_sublayers(found).found
    names = sorted(node.outputs[0].name or "" for node in gone_with(both))
    assert names == ["b0", "b1", "g0", "g1", "h0", "h1", "n0", "sum"]


def test_a_plan_file_repeats_the_removal_and_checks_it() -> None:
    model = built(PRE).model
    result = graphprune.compile(model, "depth(remove=1, criterion=reverse)")
    again = graphprune.compile(model, plan=result.plan_file)
    assert again.plans[0].bypassed == ("b1",)
    assert len(list(again.model.graph)) == len(list(result.model.graph)) < len(list(model.graph))
    (entry,) = result.plan_file.entries
    wrong = replace(entry, plan=replace(result.plans[0], bypassed=("b7",)))
    with pytest.raises(PromiseError, match="removes sublayer 'b7', which cannot go"):
        graphprune.compile(model, plan=replace(result.plan_file, entries=(wrong,)))


def test_a_position_bias_that_all_layers_share_is_no_stream() -> None:
    """The scores of the second layer depend on the bias through the first layer."""
    layer = "{q} = MatMul({x}, wq)\n {k} = Transpose <perm = [0, 2, 1]> ({x})\n {s} = MatMul({q}, {k})\n"
    layer += "{a} = Add({s}, bias)\n {p} = Softmax <axis = -1> ({a})\n {o} = MatMul({p}, {x})\n"
    layer += "{r} = Add({x}, {o})\n"
    one = layer.format(x="s", q="q0", k="k0", s="s0", a="a0", p="p0", o="o0", r="r0")
    two = layer.format(x="r0", q="q1", k="k1", s="s1", a="a1", p="p1", o="o1", r="z")
    start = "l = Shape(s)\n e = Expand(table, l)\n f = ReduceMean <keepdims = 1> (e, last)\n"
    start += "bias = MatMul(f, wb)\n"
    found = built(
        start + one + two,
        table=(1,),
        last=np.array([-1]),
        wb=(1, 5),
        wq=(C, C),
        inputs=f"float[n,5,{C}] x",
        outputs="float[n,5,3] y",
    )
    assert [item.name for item in find_sublayers(found).found] == ["o0", "o1"]
