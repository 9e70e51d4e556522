"""Shapes come from the operators that inference is handed, and from the onnx package; from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.operators import Shape, Shaping, Sized
from graphprune.ir.shapes import Sizes, infer


@dataclass(frozen=True)
class Known:
    shaping: Shaping | None
    alike: None = None


def model(op: str, domain: str, *attributes: tuple[str, int]) -> ir.Model:
    x = ir.Value(name="x", shape=ir.Shape([2, 6]), type=ir.TensorType(ir.DataType.FLOAT16))
    node = ir.node(op, [x], dict(attributes), domain=domain, num_outputs=2, name="n")
    for out, name in zip(node.outputs, "yz", strict=True):
        out.name = name
    opsets = {"": 20, "my.own": 1}
    return ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports=opsets), ir_version=10)


def halved(at: Sized) -> list[Shape | None]:
    rows, (a, b) = at.input(0)[0], at.input(0)[1]
    count = at.number("parts", 2)
    return [(rows, (a // count, b // count))]


def sizes_of(found: Sizes, graph: ir.Graph) -> list[object]:
    return [found.shapes[out] for out in graph.outputs]


def test_an_operator_of_ones_own_has_the_shapes_that_its_rule_gives_and_the_type_of_its_input() -> None:
    own = model("Halve", "my.own", ("parts", 3))
    found = infer(own, lambda node: Known(Shaping(halved)))
    assert sizes_of(found, own.graph) == [((2, 2), (2, 2)), None]
    assert own.graph.outputs[0].dtype == ir.DataType.FLOAT16 and not found.failures


def test_an_operator_that_nobody_knows_has_none_and_is_a_failure() -> None:
    unknown = model("Halve", "my.own")
    found = infer(unknown, lambda node: None)
    assert sizes_of(found, unknown.graph) == [None, None] and found.failures == ["n"]


def test_a_form_that_a_rule_leaves_out_is_asked_of_the_onnx_package() -> None:
    dropped = model("Dropout", "")
    found = infer(dropped, lambda node: Known(Shaping(lambda at: None)))
    assert sizes_of(found, dropped.graph) == [((2, 2), (6, 6))] * 2
    assert dropped.graph.outputs[1].dtype == ir.DataType.BOOL


def test_a_rule_that_needs_what_is_not_known_gives_no_shape() -> None:
    own = model("Halve", "my.own")
    own.graph.inputs[0].shape = None
    assert sizes_of(infer(own, lambda node: Known(Shaping(halved))), own.graph) == [None, None]
