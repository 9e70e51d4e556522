"""Experts are Units in every form that exporters write: unrolled, grouped, stacked, dense (fused:
test_rules_fused).

Each graph has a router over E experts of hidden width F on tokens of width C; an expert goes with its row of
the router, and the cut proves itself against the dense model with that expert's logit at -1e9.
"""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.axes import Analysis
from graphprune.axes.cost import CostModel
from graphprune.axes.kept import Kept
from graphprune.proof.prove import prove
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.session import open_session

from .claims import cut, pins, proves, sketch, units

C, E, F, TOP = 6, 4, 5, 2
ROUTER = {"wr": (C, E), "br": (E,)}
INTS = {
    "k": np.array([TOP]),
    "last": np.array([-1]),
    "first": np.array([0]),
    "front": np.array(0),
    "one": np.array(1),
    "zero": np.array([0.0], np.float32),
}
WEIGHTS = {f"{name}{e}": shape for e in range(E) for name, shape in {"u": (C, F), "d": (F, C)}.items()}
STACKS = {"up": (E, C, F), "down": (E, F, C)}
LOGITS = "l0 = MatMul(x, wr)\n logits = Add(l0, br)\n"
OUT = "y = MatMul(r, wy) }"
"""A last product, so that the width C of the result is not the only thing to cut."""


def graph(body: str, **weights: object) -> Analysis:
    return built(f"(float[n,{C}] x) => (float[n,3] y) {{ {LOGITS}" + body + OUT, wy=(C, 3), **weights)


def built(text: str, **weights: object) -> Analysis:
    """The analysis; constants that the graph does not mention are left out."""
    words = set(re.findall(r"\w+", text))
    return sketch(text, opset=18, **{n: w for n, w in (ROUTER | INTS | weights).items() if n in words})


def expert(e: int, tokens: str = "x") -> str:
    return f"h{e} = MatMul({tokens}, u{e})\n g{e} = Relu(h{e})\n o{e} = MatMul(g{e}, d{e})\n"


def lines(*parts: str) -> str:
    return "\n".join(parts) + "\n"


GATES = "best, index = TopK <axis = -1> (logits, k)\n share = Softmax <axis = -1> (best)\n"
SCATTERED = GATES + "none = Sub(logits, logits)\n gates = ScatterElements <axis = -1> (none, index, share)\n"


def slices() -> tuple[str, dict[str, object]]:
    """Gates cut off by Slice; the experts' outputs stacked by a Concat and summed."""
    each = [
        expert(e) + f"p{e} = Slice(gates, s{e}, s{e + 1}, last)\n m{e} = Mul(o{e}, p{e})\n"
        f" z{e} = Unsqueeze(m{e}, first)"
        for e in range(E)
    ]
    pieces = ", ".join(f"z{e}" for e in range(E))
    body = (
        SCATTERED
        + lines(*each)
        + f"c = Concat <axis = 0> ({pieces})\n r = ReduceSum <keepdims = 0> (c, first)\n"
    )
    return body, {f"s{e}": np.array([e]) for e in range(E + 1)}


def sums() -> tuple[str, dict[str, object]]:
    """A dense mixture: Softmax over all experts, gates picked by Gather, a chain of Adds."""
    each = [
        expert(e)
        + f"p{e} = Gather <axis = -1> (gates, n{e})\n q{e} = Unsqueeze(p{e}, last)\n m{e} = Mul(o{e}, q{e})"
        for e in range(E)
    ]
    adds = [
        "a1 = Add(m0, m1)",
        *(f"a{e} = Add(a{e - 1}, m{e})" for e in range(2, E)),
        f"r = Identity(a{E - 1})",
    ]
    return "gates = Softmax <axis = -1> (logits)\n" + lines(*each, *adds), {
        f"n{e}": np.array(e) for e in range(E)
    }


def splits() -> tuple[str, dict[str, object]]:
    """Softmax, TopK and OneHot; gates parted by Split; one n-ary Sum that starts with the residual."""
    gates = """p = Softmax <axis = -1> (logits)
        best, index = TopK <axis = -1> (p, k)
        hot = OneHot <axis = -1> (index, depth, values)
        open = Unsqueeze(best, last)
        held = Mul(hot, open)
        gates = ReduceSum <keepdims = 0> (held, middle)
        """
    names = ", ".join(f"p{e}" for e in range(E))
    each = [expert(e) + f"m{e} = Mul(p{e}, o{e})" for e in range(E)]
    operands = ", ".join(f"m{e}" for e in range(E))
    body = (
        gates
        + f"{names} = Split <axis = -1, num_outputs = {E}> (gates)\n"
        + lines(*each)
        + f"r = Sum(x, {operands})\n"
    )
    return body, {"depth": np.array(E), "values": np.array([0, 1], np.float32), "middle": np.array([1])}


def comparisons() -> tuple[str, dict[str, object]]:
    """Each expert runs on the tokens that chose it: Equal, NonZero, Gather, and a ScatterND that adds."""
    each = []
    for e in range(E):
        before = "none" if e == 0 else f"a{e - 1}"
        each.append(
            f"""f{e} = Equal(index, n{e})
            w{e} = Where(f{e}, share, zero)
            t{e} = ReduceSum <keepdims = 1> (w{e}, last)
            b{e} = Cast <to = 1> (f{e})
            i{e} = ReduceMax <keepdims = 0> (b{e}, last)
            j{e} = NonZero(i{e})
            k{e} = Transpose <perm = [1, 0]> (j{e})
            x{e} = GatherND(x, k{e})
            v{e} = GatherND(t{e}, k{e})
            {expert(e, f"x{e}")} m{e} = Mul(o{e}, v{e})
            a{e} = ScatterND <reduction = "add"> ({before}, k{e}, m{e})"""
        )
    return GATES + "none = Sub(x, x)\n" + lines(*each) + f"r = Identity(a{E - 1})\n", {
        f"n{e}": np.array(e) for e in range(E)
    }


def grouped() -> tuple[str, dict[str, object]]:
    """Tokens sorted by expert, a histogram, running offsets, one Range per expert (transformers)."""
    body = """p = Softmax <axis = -1> (logits)
        best, index = TopK <axis = -1> (p, k)
        flat = Reshape(index, last)
        many = Shape(flat)
        ids, order = TopK <axis = -1, largest = 0> (flat, many)
        token = Div(order, top)
        rows2 = Gather <axis = 0> (x, token)
        weights = Reshape(best, last)
        own = Gather <axis = 0> (weights, order)
        real = Cast <to = 1> (ids)
        bins = Div(real, width)
        whole = Cast <to = 7> (bins)
        bin = Clip(whole, front, most)
        ones = Expand(unit, many)
        counts = ScatterElements <axis = 0, reduction = "add"> (empty, bin, ones)
        round = Cast <to = 6> (counts)
        ends = CumSum(round, front)
        wide = Cast <to = 7> (ends)
        """
    names = [", ".join(f"{letter}{e}" for e in range(E)) for letter in "eud"]
    body += f"{names[0]} = Split <num_outputs = {E}> (wide)\n"
    body += f"{names[1]} = Split <num_outputs = {E}> (up)\n {names[2]} = Split <num_outputs = {E}> (down)\n"
    for e in range(E):
        start = "front" if e == 0 else f"s{e - 1}"
        body += f"""s{e} = Squeeze(e{e}, first)
            r{e} = Range({start}, s{e}, one)
            x{e} = Gather <axis = 0> (rows2, r{e})
            v{e} = Squeeze(u{e}, first)
            h{e} = MatMul(x{e}, v{e})
            """
    body += "h = Concat <axis = 0> (" + ", ".join(f"h{e}" for e in range(E)) + ")\n g = Relu(h)\n"
    for e in range(E):
        body += (
            f"b{e} = Gather <axis = 0> (g, r{e})\n t{e} = Squeeze(d{e}, first)\n o{e} = MatMul(b{e}, t{e})\n"
        )
    body += "o = Concat <axis = 0> (" + ", ".join(f"o{e}" for e in range(E)) + ")\n"
    body += """open = Unsqueeze(own, last)
        m = Mul(o, open)
        there = Unsqueeze(token, last)
        none = Sub(x, x)
        r = ScatterND <reduction = "add"> (none, there, m)
        """
    return body, STACKS | {
        "top": np.array(TOP),
        "width": np.array((E - 1) / E, np.float32),
        "most": np.array(E - 1),
        "unit": np.array(1, np.float32),
        "empty": np.zeros(E, np.float32),
    }


def stacked() -> tuple[str, dict[str, object]]:
    """All experts at once on stacked weights [E, K, N]; unchosen ones get weight zero."""
    body = (
        SCATTERED
        + """all = Unsqueeze(x, first)
        h = MatMul(all, up)
        g = Relu(h)
        o = MatMul(g, down)
        turned = Transpose <perm = [1, 0]> (gates)
        open = Unsqueeze(turned, last)
        m = Mul(o, open)
        r = ReduceSum <keepdims = 0> (m, first)
        """
    )
    return body, STACKS


def gathered() -> tuple[str, dict[str, object]]:
    """Every token gathers the weights of its experts from the stacks."""
    body = (
        GATES
        + """w = Gather <axis = 0> (up, index)
        v = Gather <axis = 0> (down, index)
        row = Unsqueeze(x, axes)
        h = MatMul(row, w)
        g = Relu(h)
        o = MatMul(g, v)
        flat = Squeeze(o, two)
        open = Unsqueeze(share, last)
        m = Mul(flat, open)
        r = ReduceSum <keepdims = 0> (m, one1)
        """
    )
    return body, STACKS | {"axes": np.array([1, 2]), "two": np.array([2]), "one1": np.array([1])}


FORMS = {
    "slices": (slices, TOP),
    "sums": (sums, 1),
    "splits": (splits, TOP),
    "comparisons": (comparisons, TOP),
    "grouped": (grouped, TOP),
    "stacked": (stacked, TOP),
    "gathered": (gathered, TOP),
}
UNROLLED = ("slices", "sums", "splits", "comparisons")


@pytest.fixture(scope="module")
def forms() -> dict[str, Analysis]:
    found = {}
    for name, (form, _) in FORMS.items():
        body, extra = form()
        found[name] = graph(body, **((WEIGHTS if name in UNROLLED else {}) | extra))
    return found


@pytest.mark.parametrize("name", FORMS)
def test_experts_are_one_group_of_units(forms: dict[str, Analysis], name: str) -> None:
    """The router's columns, of which the top k stay; every hidden width is a group of its own."""
    group = forms[name].group("wr:1")
    assert group.pin is None and group.size == E and group.floor == FORMS[name][1]
    assert {s.initializer for s in group.slices} >= {"wr", "br"}
    widths = [F] * E if name in UNROLLED else [F]
    assert sorted(g.size for g in forms[name].prunable if g.size == F) == widths


@pytest.mark.parametrize("name", FORMS)
def test_a_cut_of_experts_and_widths_proves_itself(forms: dict[str, Analysis], name: str) -> None:
    proves(forms[name])


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kept", [(0, 1), (2, 3), (0, 3), (1, 2)])
def test_any_two_experts_may_stay(forms: dict[str, Analysis], name: str, kept: tuple[int, ...]) -> None:
    """Nothing of a removed expert is left, and the model is the one that was built without it."""
    small = cut(forms[name], wr=kept)
    read = {v.name for node in small.graph for v in node.inputs if v is not None}
    if name in UNROLLED:
        assert {n for n in read if n and n[0] in "ud" and n[1:].isdigit()} == {
            f"{c}{e}" for c in "ud" for e in kept
        }
    feeds = runnable_inputs(forms[name].model)
    one = open_session(small).run(feeds)["y"]
    two = open_session(_masked(forms[name].model, kept)).run(feeds)["y"]
    assert np.allclose(one, two, atol=1e-5 * np.abs(two).max())


def _masked(dense: ir.Model, kept: tuple[int, ...]) -> ir.Model:
    """The dense model whose router never chooses another expert, made by hand."""
    masked = dense.clone()
    value = masked.graph.initializers["br"]
    assert value.const_value is not None
    bias = np.array(value.const_value.numpy())
    bias[[e for e in range(E) if e not in kept]] = -1e9
    value.const_value = ir.tensor(bias, name="br")
    return masked


def test_routing_weights_that_are_an_output_pin_the_experts() -> None:
    body, extra = sums()
    outputs = f"(float[n,{C}] r, float[n,{E}] gates)"
    found = built(f"(float[n,{C}] x) => {outputs} {{ {LOGITS}{body} }}", **(WEIGHTS | extra))
    assert "graph output 'gates'" in pins(found)["wr:1"]


def test_an_expert_that_is_read_elsewhere_pins_them_and_says_where() -> None:
    """The gate of expert 0 also feeds a Sigmoid: it would not be zero without the expert."""
    body = sums()[0].replace(
        "r = Identity(a3)", "extra = Sigmoid(p0)\n wide = Unsqueeze(extra, last)\n r = Mul(a3, wide)"
    )
    found = graph(body, **(WEIGHTS | sums()[1]))
    assert pins(found)["wr:1"] == "Sigmoid reads a single expert's part of its axis"


def test_softmax_of_an_attention_is_no_router() -> None:
    """Memory slots behind a Softmax are not experts: no TopK chooses among them, none owns weights."""
    found = sketch(
        f"(float[n,{C}] x) => (float[n,3] y) {{ s = MatMul(x, keys)\n p = Softmax <axis = -1> (s)\n"
        f" y = MatMul(p, memory) }}",
        keys=(C, E), memory=(E, 3),
    )  # fmt: skip
    assert units(found) == []
    assert pins(found)["keys:1"] == "Softmax normalises over it"


@pytest.mark.parametrize("name", ["slices", "comparisons", "grouped", "stacked"])
def test_the_cost_of_a_cut_counts_the_weights_of_removed_experts(
    forms: dict[str, Analysis], name: str
) -> None:
    """What the budget foresees is what the rewritten model has."""
    small = cut(forms[name], wr=(0, 2))
    foreseen = CostModel(forms[name], {}).params(Kept(forms[name], {"wr:1": (0, 2)}))
    stored = [v.const_value for v in small.graph.initializers.values() if v.const_value is not None]
    assert foreseen == sum(tensor.size for tensor in stored if tensor.dtype.is_floating_point())


def test_a_forged_gate_of_a_removed_expert_fails_the_proof(forms: dict[str, Analysis]) -> None:
    """The expert that stays must be the one the plan keeps: its weights are compared bit by bit."""
    found = forms["slices"]
    plan = Plan(found.options, {"wr:1": (0, 2)}, {"wr:1": E})
    forged = rewrite(found.model, found, plan)
    other = found.model.graph.initializers["u1"].const_value
    forged.graph.initializers["u0"].const_value = other
    proof = prove(found.model, found, plan, forged, [runnable_inputs(found.model)])
    assert not proof.ok
    assert any("'u0'" in line for line in proof.details)
