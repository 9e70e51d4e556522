"""Smooth activations written out as exponentials, in forms that ONNX Runtime does not fuse."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.lowering.rule import FLOATS, REALS, Rewrite, Rule
from graphprune.lowering.rules.activations import CLOSE, example, scaled
from graphprune.lowering.scene import Scene, Writer, dtype_of, is_op, operands

NEAR = 1e-3
"""Relative difference of a written constant from sqrt(2 / pi) and 0.044715, which exporters round."""


def _one_plus_exp(value: ir.Value | None, scene: Scene) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """(x, nodes): a value that is 1 + exp(-x)."""
    add = scene.made_by(value, "Add")
    found = scene.with_number(add)
    exp = scene.made_by(found[0], "Exp") if found is not None and found[1] == 1 else None
    if add is None or exp is None or exp.inputs[0] is None:
        return None
    turned = scene.made_by(exp.inputs[0], "Neg")
    if turned is not None and turned.inputs[0] is not None:
        return turned.inputs[0], (turned, exp, add)
    data, factor, nodes = scaled(exp.inputs[0], scene)
    return (data, (*nodes, exp, add)) if factor == -1 else None


def sigmoid(node: ir.Node, scene: Scene) -> Rewrite | None:
    """1 / (1 + exp(-x)), or x / (1 + exp(-x))."""
    below = node.inputs[0] if is_op(node, "Reciprocal") else node.inputs[1]
    found = _one_plus_exp(below, scene)
    if found is None:
        return None
    data, nodes = found
    if is_op(node, "Reciprocal") or scene.number(node.inputs[0], data) == 1:
        return Rewrite((*nodes, node), lambda to: to.op("Sigmoid", data))
    above = node.inputs[0]
    if above is None or not scene.alike(above, data) or dtype_of(node) not in FLOATS:
        return None  # of a product in double precision ONNX Runtime 1.20 makes what it has no kernel for
    return Rewrite((*nodes, node), lambda to: to.op("Mul", above, to.op("Sigmoid", data)))


def half_tanh(node: ir.Node, scene: Scene) -> Rewrite | None:
    """(1 + tanh(u)) / 2."""
    found = _half_tanh(node.outputs[0], scene)
    if found is None:
        return None
    inner, nodes = found
    data, factor, scales = scaled(inner, scene)
    if any(len(out.uses()) > 1 for each in scales for out in each.outputs):
        data, factor, scales = inner, 1.0, ()
    return Rewrite((*scales, *nodes), lambda to: _sigmoid_of(to, data, 2 * factor))


def _sigmoid_of(to: Writer, data: ir.Value, factor: float) -> ir.Value:
    if factor != 1:
        data = to.op("Mul", data, to.constant(factor))
    return to.op("Sigmoid", data)


def _half_tanh(value: ir.Value, scene: Scene) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """(u, nodes): a value that is (1 + tanh(u)) / 2, the half outside or inside."""
    inner, factor, outer = scaled(value, scene)
    add = scene.made_by(inner, "Add")
    found = scene.with_number(add)
    if add is None or found is None:
        return None
    turned, inside, scales = scaled(found[0], scene)
    tanh = scene.made_by(turned, "Tanh")
    if tanh is None or tanh.inputs[0] is None:
        return None
    if not np.isclose([factor * found[1], factor * inside], 0.5, rtol=1e-6, atol=0).all():
        return None
    return tanh.inputs[0], (tanh, *scales, add, *outer)


def gelu_fused(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A product x · (1 + tanh(k · (x + c · x³))) / 2 in any order but that which ONNX Runtime knows."""
    found = _gelu_parts(node, scene)
    if found is None or any(is_op(each, "Pow") for each in found[1]):
        return None  # with a Pow ONNX Runtime fuses it as it is
    data, nodes = found
    return Rewrite(nodes, lambda to: _gelu(to, data))


def gelu_node(node: ir.Node, scene: Scene) -> Rewrite | None:
    """The same product in any order, that included."""
    found = _gelu_parts(node, scene)
    if found is None:
        return None
    data, nodes = found
    return Rewrite(nodes, lambda to: to.op("Gelu", data, attributes={"approximate": "tanh"}))


def _gelu_parts(node: ir.Node, scene: Scene) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """(x, nodes): what that product is of, and all that makes it."""
    values, numbers, nodes = _factors(node.outputs[0], scene, 3)
    if len(values) != 2 or not nodes or abs(float(np.prod(numbers)) - 0.5) > CLOSE:
        return None
    for gate, data in (values, values[::-1]):
        found = _tanh_plus_one(gate, scene)
        cubic = _cubic(found[0], data, scene) if found is not None else None
        if found is not None and cubic is not None:
            return data, (*cubic, *found[1], *nodes)
    return None


def _factors(
    value: ir.Value, scene: Scene, depth: int
) -> tuple[list[ir.Value], list[float], tuple[ir.Node, ...]]:
    node = scene.made_by(value, "Mul")
    if node is None or not depth:
        return [value], [], ()
    pair = scene.with_number(node)
    if pair is not None:
        values, numbers, nodes = _factors(pair[0], scene, depth - 1)
        return values, [*numbers, pair[1]], (*nodes, node)
    one, two = node.inputs[:2]
    if one is None or two is None:
        return [value], [], ()
    first, second = (_factors(each, scene, depth - 1) for each in (one, two))
    return first[0] + second[0], first[1] + second[1], (*first[2], *second[2], node)


def _tanh_plus_one(value: ir.Value, scene: Scene) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """(u, nodes): a value that is 1 + tanh(u)."""
    add = scene.made_by(value, "Add")
    found = scene.with_number(add)
    tanh = scene.made_by(found[0], "Tanh") if found is not None else None
    if add is None or found is None or tanh is None or tanh.inputs[0] is None or found[1] != 1:
        return None
    return tanh.inputs[0], (tanh, add)


def _cubic(value: ir.Value, x: ir.Value, scene: Scene) -> tuple[ir.Node, ...] | None:
    """The nodes of sqrt(2/pi) · (x + 0.044715 · x³)."""
    inner, factor, scales = scaled(value, scene)
    add = scene.made_by(inner, "Add")
    if add is None or abs(factor / np.sqrt(2 / np.pi) - 1) > NEAR:
        return None
    for one, two in operands(add):
        cube = _cube(two, x, scene)
        if one is x and cube is not None and abs(cube[0] / 0.044715 - 1) > NEAR:
            continue
        if one is x and cube is not None:
            return (*cube[1], add, *scales)
    return None


def _cube(value: ir.Value, x: ir.Value, scene: Scene) -> tuple[float, tuple[ir.Node, ...]] | None:
    """(c, nodes): a value that is c · x³."""
    values, numbers, nodes = _factors(value, scene, 4)
    power = 0
    for each in values:
        raised = scene.made_by(each, "Pow")
        exponent = scene.number(raised.inputs[1], raised.inputs[0]) if raised is not None else None
        if each is x:
            power += 1
        elif raised is not None and raised.inputs[0] is x and exponent in (2, 3):
            power, nodes = power + int(exponent), (raised, *nodes)
        else:
            return None
    return (float(np.prod(numbers)), nodes) if power == 3 else None


def _gelu(to: Writer, x: ir.Value) -> ir.Value:
    """As transformers write it, which ONNX Runtime fuses into one node."""
    cube = to.op("Pow", x, to.constant(3.0))
    inner = to.op("Add", x, to.op("Mul", cube, to.constant(0.044715)))
    tanh = to.op("Tanh", to.op("Mul", inner, to.constant(float(np.sqrt(2 / np.pi)))))
    half = to.op("Mul", x, to.constant(0.5))
    return to.op("Mul", half, to.op("Add", tanh, to.constant(1.0)))


_ONE = "o@ = Constant<value_float=1.0>()\n"
_EXP = _ONE + "n@ = Neg(t@)\ne@ = Exp(n@)\na@ = Add(e@,o@)\n"

RULES = (
    Rule(
        "sigmoid-written",
        ("Div", "Reciprocal"),
        "1 / (1 + exp(-x)), or x / (1 + exp(-x))",
        "Sigmoid(x), or x · Sigmoid(x)",
        "the second not in double precision",
        "rounding",
        sigmoid,
        example(_EXP + "u@ = Div(t@,a@)"),
        types=REALS,
    ),
    Rule(
        "gelu-node",
        ("Mul",),
        "x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2, its factors in any order",
        "Gelu(x)",
        "the opset is 20 or later",
        "rounding",
        gelu_node,
        example(
            _ONE + "f@ = Constant<value_float=0.5>()\nk@ = Constant<value_float=0.7978846>()\n"
            "q@ = Constant<value_float=0.044715>()\nc@ = Constant<value_float=3.0>()\nm@ = Pow(t@,c@)\n"
            "r@ = Mul(m@,q@)\na@ = Add(t@,r@)\nd@ = Mul(a@,k@)\ne@ = Tanh(d@)\ng@ = Add(e@,o@)\n"
            "h@ = Mul(t@,f@)\nu@ = Mul(h@,g@)"
        ),
        opset=20,
        needs=20,
    ),
    Rule(
        "gelu-tanh",
        ("Mul",),
        "the same",
        "the same in the order that ONNX Runtime fuses",
        "",
        "rounding",
        gelu_fused,
        example(
            _ONE + "f@ = Constant<value_float=0.5>()\nk@ = Constant<value_float=0.7978846>()\n"
            "q@ = Constant<value_float=0.044715>()\nm@ = Mul(t@,q@)\nn@ = Mul(t@,m@)\nr@ = Mul(t@,n@)\n"
            "a@ = Add(t@,r@)\nd@ = Mul(k@,a@)\ne@ = Tanh(d@)\ng@ = Add(o@,e@)\nh@ = Mul(f@,g@)\n"
            "u@ = Mul(t@,h@)"
        ),
    ),
    Rule(
        "half-tanh",
        ("Mul", "Add", "Div"),
        "(1 + tanh(u)) / 2",
        "Sigmoid(2·u)",
        "",
        "rounding",
        half_tanh,
        example(
            _ONE + "f@ = Constant<value_float=0.5>()\nm@ = Mul(t@,f@)\nn@ = Tanh(m@)\n"
            "v@ = Mul(n@,f@)\nu@ = Add(v@,f@)"
        ),
    ),
)
