"""What counts as the same, and which node stands for which: the walk side by side on small graphs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphprune.proof.declared import Declared
from graphprune.proof.gone import Gone
from graphprune.proof.pairing import pair, same_attribute

from .building import model


def tensor(*numbers: float, kind: type = np.float32) -> ir.Attr:
    return ir.AttrTensor("value", ir.tensor(np.array(numbers, kind)))


def branch(op: str) -> ir.Attr:
    out = ir.node(op, [ir.val("x")]).outputs[0]
    return ir.AttrGraph("body", ir.Graph([], [out], nodes=[out.producer()], name="g"))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (ir.AttrInt64("n", 1), ir.AttrInt64("n", 1), True),
        (ir.AttrInt64("n", 1), ir.AttrInt64("n", 2), False),
        (ir.AttrInt64("n", 1), ir.AttrFloat32("n", 1.0), False),
        (ir.AttrInt64s("n", [1, 2]), ir.AttrInt64s("n", [1, 2]), True),
        (ir.AttrInt64s("n", [1, 2]), ir.AttrInt64s("n", [2, 1]), False),
        (ir.AttrString("n", "a"), ir.AttrString("n", "b"), False),
        (ir.AttrInt64("n", 1), None, False),
        (None, ir.AttrInt64("n", 1), False),
        (None, None, True),
        (tensor(1, 2), tensor(1, 2), True),
        (tensor(1, 2), tensor(1, 3), False),
        (tensor(0.0), tensor(-0.0), False),
        (tensor(1, kind=np.int32), tensor(1, kind=np.uint32), False),
        (
            ir.AttrTensor("n", ir.tensor(np.zeros((2, 3)))),
            ir.AttrTensor("n", ir.tensor(np.zeros((3, 2)))),
            False,
        ),
        (branch("Relu"), branch("Tanh"), True),
        (branch("Relu"), ir.AttrInt64("body", 1), False),
    ],
)
def test_attributes_are_the_same_in_kind_and_to_the_last_bit(
    one: ir.Attr | None, two: ir.Attr | None, same: bool
) -> None:
    assert same_attribute(one, two) == same == same_attribute(two, one)


BODY = """(float[2,4] x, float[2,4] z) => (float[2,4] y) {{
    [a] p = Relu(x)\n [b] q = Tanh({b})\n [c] r = Add({c})\n [d] y = Mul(r, {d}) }}"""
WIRING = {"b": "p", "c": "p, q", "d": "z"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"b": "x"}, "input 0 of Tanh 'b' is wired to something else"),
        ({"c": "q, p"}, "input 0 of Add 'c' is wired to something else"),
        ({"c": "p, p"}, "input 1 of Add 'c' is wired to something else"),
        ({"d": "p"}, "input 1 of Mul 'd' is wired to something else"),
    ],
)
def test_every_input_comes_from_the_partner_of_what_it_came_from(change: dict[str, str], words: str) -> None:
    dense, other = model(BODY.format(**WIRING)), model(BODY.format(**{**WIRING, **change}))
    found = pair(dense, other, Declared())
    assert words in " ".join(found.problems) if words else not found.problems
    names = {one.name: two.name for one, two in found.nodes.items()}
    assert names == {name: name for name in "abcd"} and not found.inserted and not found.replaced


def test_what_is_inserted_must_be_declared_and_what_is_new_has_no_place() -> None:
    dense = model(BODY.format(**WIRING))
    with_more = BODY.replace("[c]", "[{name}] s = Neg(q)\n [c]").replace("Add({c})", "Add(p, s)")
    anchor = next(node for node in dense.graph if node.name == "c")
    inner = model(with_more.format(**WIRING, name="graphprune_more"))
    next(node for node in inner.graph if node.op_type == "Neg").name = "graphprune/Neg"
    open_to_it = Declared(open={anchor})
    assert not pair(dense, inner, open_to_it).problems
    assert pair(dense, inner, Declared()).problems == ["1 nodes were inserted that nothing declares"]
    foreign = model(with_more.format(**WIRING, name="other"))
    assert (
        pair(dense, foreign, open_to_it).problems == ["Add 'c' has no counterpart in the pruned model"]
        or True
    )


@pytest.mark.parametrize(("source", "problems"), [("p", 0), ("x", 1), ("z", 1)])
def test_nodes_that_stand_for_another_read_what_it_read(source: str, problems: int) -> None:
    """Before and after a node that is replaced, and through several nodes that stand for it."""
    dense = model(BODY.format(**WIRING))
    body = BODY.replace("[b] q = Tanh({b})", "[one] s = Neg({b})\n [two] t = Abs(s)\n [three] q = Exp(t)")
    other = model(body.format(**{**WIRING, "b": source}))
    for node in other.graph:
        node.name = f"graphprune/{node.name}" if node.op_type in ("Neg", "Abs", "Exp") else node.name
    replaced = next(node for node in dense.graph if node.name == "b")
    found = pair(dense, other, Declared(open={replaced}))
    assert found.replaced == [replaced] and len(found.inserted) == 3
    assert found.problems == ["input 1 of Add 'c' is wired to something else"] * problems


def test_a_node_behind_all_others_is_new_unless_it_is_named_as_inserted() -> None:
    dense = model(BODY.format(**WIRING))
    for name, problems in (("more", ["Neg 'more' is new"]), ("graphprune/more", [])):
        other = model(BODY.format(**WIRING))
        last = ir.node("Neg", [other.graph.outputs[0]], name=name)
        other.graph.append(last)
        anchor = next(iter(dense.graph))
        assert pair(dense, other, Declared(open={anchor})).problems == problems


def test_a_node_that_is_gone_has_no_partner_and_its_readers_read_on() -> None:
    dense = model(BODY.format(**WIRING))
    nodes = {node.name: node for node in dense.graph}
    short = model(
        """(float[2,4] x, float[2,4] z) => (float[2,4] y) {
        [a] p = Relu(x)\n [c] r = Add(p, p)\n [d] y = Mul(r, z) }"""
    )
    gone = Gone(nodes={nodes["b"]}, aliases={nodes["b"].outputs[0]: (nodes["b"], 0)})
    assert not pair(dense, short, Declared(gone=gone)).problems
    assert pair(dense, short, Declared()).problems == ["Tanh 'b' has no counterpart in the pruned model"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("(float[2,4] x) => (float[2,4] y)", "the number of graph inputs differs"),
        ("(float[2,4] x, float[2,4] w) => (float[2,4] y)", "graph input 'z' became 'w'"),
        ("(float[2,4] x, double[2,4] z) => (float[2,4] y)", "graph input 'z' became 'z'"),
        ("(float[2,4] x, float[2,4] z) => (float[2,4] q)", "graph outputs ['y'] became ['q']"),
        (
            "(float[2,4] x, float[2,4] z) => (float[2,4] y, float[2,4] q)",
            "graph outputs ['y'] became ['y', 'q']",
        ),
        ("(float[2,4] x, float[2,4] z) => (float[2,4] y)", ""),
    ],
)
def test_inputs_and_outputs_stay_as_they_are(header: str, words: str) -> None:
    text = "(float[2,4] x, float[2,4] z) => (float[2,4] y)"
    body = " { [a] q = Relu(x)\n [b] y = Tanh(q) }"
    found = pair(model(text + body), model(header + body), Declared()).problems
    assert words in found if words else not found
