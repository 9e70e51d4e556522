"""Activations with kinks that an exporter wrote out; as one node they stay in the layout of convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Doubles
from graphprune.ir.nodes import input_of
from graphprune.lowering.rule import REALS, Rewrite, Rule
from graphprune.lowering.scene import Scene, Writer, dtype_of, is_op, number_of, operands

CLOSE = 1e-6
"""Relative difference of two numbers that an exporter rounded from one."""
PAYS = 1024
"""Elements from which on two nodes are faster than PRelu."""


def close(node: ir.Node) -> float:
    """Relative difference of two constants of a node's type that were one number."""
    kind = dtype_of(node)
    return CLOSE if kind is None else max(CLOSE, float(kind.eps))


def bounds(node: ir.Node | None, scene: Scene) -> tuple[ir.Value, float, float] | None:
    """What a Clip cuts off, and where, in its form of any opset."""
    if node is None or not is_op(node, "Clip") or node.inputs[0] is None:
        return None
    data, found = node.inputs[0], []
    for position, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        given = input_of(node, position)
        bound = number_of(node, name, default) if given is None else scene.number(given, data)
        if bound is None:
            return None
        found.append(bound)
    return data, found[0], found[1]


def shifted(value: ir.Value, scene: Scene) -> tuple[ir.Value, float, tuple[ir.Node, ...]]:
    """A value as another one plus a number."""
    node = scene.made_by(value, "Add", "Sub")
    if node is not None and (found := scene.with_number(node)) is not None:
        data, number = found
        if is_op(node, "Add"):
            return data, number, (node,)
        if data is node.inputs[0]:
            return data, -number, (node,)
    return value, 0.0, ()


def scaled(value: ir.Value, scene: Scene) -> tuple[ir.Value, float, tuple[ir.Node, ...]]:
    """A value as another one times a number."""
    node = scene.made_by(value, "Mul", "Div")
    if node is not None and (found := scene.with_number(node)) is not None:
        data, number = found
        if is_op(node, "Mul"):
            return data, number, (node,)
        if data is node.inputs[0] and number:
            return data, 1 / number, (node,)
    return value, 1.0, ()


def _ramp(value: ir.Value, scene: Scene) -> tuple[ir.Value, float, float, float, tuple[ir.Node, ...]] | None:
    """(x, a, b, top): a value that is Clip(a·x + b, 0, top)."""
    clip = scene.made_by(value, "Clip")
    found = bounds(clip, scene)
    if clip is None or found is None or found[1] != 0 or not 0 < found[2] < np.inf:
        return None
    inner, shift, adds = shifted(found[0], scene)
    data, slope, scales = scaled(inner, scene)
    if not adds or slope <= 0:
        return None
    return data, slope, shift, found[2], (*scales, *adds, clip)


def hard_sigmoid(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Clip(a·x + b, 0, t) / t."""
    inner, factor, last = scaled(node.outputs[0], scene)
    found = _ramp(inner, scene)
    if not last or found is None:
        return None
    data, slope, shift, top, nodes = found
    if abs(top * factor - 1) > close(node):
        return None
    return Rewrite((*nodes, *last), lambda to: ramp(to, data, slope / top, shift / top))


def ramp(to: Writer, data: ir.Value, slope: float, shift: float) -> ir.Value:
    """HardSigmoid."""
    return to.op("HardSigmoid", data, attributes={"alpha": slope, "beta": shift})


def unit_ramp(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Clip(a·x + b, 0, 1)."""
    found = _ramp(node.outputs[0], scene)
    if found is None or found[3] != 1:
        return None
    data, slope, shift, _, nodes = found
    return Rewrite(nodes, lambda to: ramp(to, data, slope, shift))


def hard_swish(node: ir.Node, scene: Scene) -> Rewrite | None:
    """X · Clip(x + 3, 0, 6) / 6, the product and the quotient in either order."""
    inner, factor, last = scaled(node.outputs[0], scene)
    product = scene.made_by(inner, "Mul")
    if product is None:
        return None
    for side, gate in operands(product):
        data, other, scales = scaled(side, scene)
        found = _ramp(gate, scene)
        if found is None or (not last and not scales):
            continue
        same, slope, shift, top, nodes = found
        if data is not same or abs(top * factor * other - 1) > close(node):
            continue
        return _swish((*scales, *nodes, product, *last), same, slope / top, shift / top)
    return None


def _swish(gone: tuple[ir.Node, ...], data: ir.Value, slope: float, shift: float) -> Rewrite:
    return Rewrite(gone, lambda to: swish(to, data, slope, shift))


def swish(to: Writer, data: ir.Value, slope: float, shift: float) -> ir.Value:
    """X · HardSigmoid(x)."""
    return to.op("Mul", data, ramp(to, data, slope, shift))


def _is_relu(value: ir.Value | None, scene: Scene) -> tuple[ir.Value, ir.Node] | None:
    """(x, node) of max(x, 0), in any of its forms."""
    node = scene.made_by(value, "Relu", "Max")
    if node is None or node.inputs[0] is None:
        return None
    if is_op(node, "Relu"):
        return node.inputs[0], node
    found = scene.with_number(node) if len(node.inputs) == 2 else None
    return (found[0], node) if found is not None and found[1] == 0 else None


def _negative(value: ir.Value, scene: Scene) -> tuple[ir.Value, Doubles, tuple[ir.Node, ...]] | None:
    """(x, a): a value that is a · min(x, 0)."""
    one = np.ones(())
    node = scene.made_by(value, "Min", "Neg", "Mul", "Relu", "Max")
    if node is None:
        return None
    if is_op(node, "Min"):
        least = scene.with_number(node) if len(node.inputs) == 2 else None
        return (least[0], one, (node,)) if least is not None and least[1] == 0 else None
    if is_op(node, "Mul"):
        pair = scene.with_array(node)
        inner = _negative(pair[0], scene) if pair is not None else None
        return (inner[0], inner[1] * pair[1], (*inner[2], node)) if inner and pair else None
    if is_op(node, "Neg") and node.inputs[0] is not None:
        inner = _negative(node.inputs[0], scene)
        return (inner[0], -inner[1], (*inner[2], node)) if inner else None
    relu = _is_relu(value, scene)
    turned = scene.made_by(relu[0], "Neg") if relu else None
    if relu is None or turned is None or turned.inputs[0] is None:
        return None
    return turned.inputs[0], -one, (turned, relu[1])


def _kinked(data: ir.Value, slope: Doubles, nodes: tuple[ir.Node, ...]) -> Rewrite | None:
    """X above zero, slope · x below, as LeakyRelu or, with a slope per channel, as Max(x, slope · x)."""
    if not slope.size or not np.isfinite(slope).all():
        return None
    if (slope == slope.flat[0]).all():
        alpha = float(slope.flat[0])
        return Rewrite(nodes, lambda to: to.op("LeakyRelu", data, attributes={"alpha": alpha}))
    # At slope 0 an infinity would become NaN; above 1 the smaller one were right.
    if (slope > 1).any() or (np.abs(slope) < 1e-30).any():
        return None
    return Rewrite(nodes, lambda to: to.op("Max", data, to.op("Mul", data, to.constant(slope))))


def prelu_written(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Relu(x) + a · min(x, 0), the second in any form."""
    for one, two in operands(node):
        positive = _is_relu(one, scene)
        negative = _negative(two, scene)
        if positive is None or negative is None or positive[0] is not negative[0]:
            continue
        if is_op(node, "Sub") and one is not node.inputs[0]:
            continue
        slope = -negative[1] if is_op(node, "Sub") else negative[1]
        return _kinked(positive[0], slope, (positive[1], *negative[2], node))
    return None


def leaky(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Max(x, a·x) with one a of at most 1."""
    for one, two in operands(node) if len(node.inputs) == 2 else ():
        data, slope, nodes = scaled(two, scene)
        if nodes and data is one and abs(slope) > 0 and slope <= 1:
            return _kinked(data, np.asarray(slope), (*nodes, node))
    return None


def chosen(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Where(x > 0, x, a·x), or the other way round."""
    condition, yes, no = node.inputs[:3]
    test = scene.made_by(condition, "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    if test is None or yes is None or no is None or test.inputs[0] is None:
        return None
    if scene.number(test.inputs[1], test.inputs[0]) != 0:
        return None
    if is_op(test, "Less", "LessOrEqual"):
        yes, no = no, yes
    scale = scene.made_by(no, "Mul")
    pair = scene.with_array(scale) if scale is not None else None
    if scale is None or pair is None or not (pair[0] is yes is test.inputs[0]):
        return None
    return _kinked(yes, pair[1], (test, scale, node))


def prelu(node: ir.Node, scene: Scene) -> Rewrite | None:
    """PRelu with constant slopes."""
    slope = scene.beside(input_of(node, 1), node.inputs[0])
    if slope is None or node.inputs[0] is None:
        return None
    if (slope != slope.flat[0]).any() and scene.least(node.inputs[0]) < PAYS:
        return None
    return _kinked(node.inputs[0], slope, (node,))


def prelu_split(node: ir.Node, scene: Scene) -> Rewrite | None:
    """PRelu with any slopes, for versions of ONNX Runtime whose kernel is slow."""
    data, slope = node.inputs[0], scene.beside(input_of(node, 1), node.inputs[0])
    if slope is None or data is None or scene.least(data) < PAYS:
        return None
    return Rewrite((node,), lambda to: _split(to, data, slope))


def _split(to: Writer, data: ir.Value, slope: Doubles) -> ir.Value:
    below = to.op("Min", data, to.constant(0.0))
    return to.op("Add", to.op("Relu", data), to.op("Mul", below, to.constant(slope)))


def max_zero(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Max(x, 0)."""
    found = _is_relu(node.outputs[0], scene)
    return None if found is None else Rewrite((node,), lambda to: to.op("Relu", found[0]))


def min_relu(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Min(Relu(x), t)."""
    found = scene.with_number(node) if len(node.inputs) == 2 else None
    relu = scene.made_by(found[0], "Relu") if found is not None else None
    if found is None or relu is None or relu.inputs[0] is None or found[1] <= 0:
        return None
    data, top = relu.inputs[0], found[1]
    return Rewrite((relu, node), lambda to: _clip(to, scene, data, top))


def _clip(to: Writer, scene: Scene, data: ir.Value, top: float) -> ir.Value:
    if scene.opset < 11:
        return to.op("Clip", data, attributes={"min": 0.0, "max": top})
    return to.op("Clip", data, to.constant(0.0), to.constant(top))


_CONV = "t{0} = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>({1},w{0})"


def example(body: str) -> str:
    """Two convolutions with an activation of `t` into `u` behind each."""
    parts = []
    for at, source in ((1, "x"), (2, "u1")):
        parts.append(_CONV.format(at, source))
        text = body.replace("@", str(at))
        parts.append(text)
    return "\n".join(parts) + "\ny = Identity(u2)"


_ZERO = "z@ = Constant<value_float=0.0>()\ns@ = Constant<value_float=6.0>()\n"
_SHIFT = "h@ = Constant<value_float=3.0>()\n"

RULES = (
    Rule(
        "hard-swish",
        ("Mul", "Div"),
        "x · Clip(x + 3, 0, 6) / 6",
        "x · HardSigmoid(x)",
        "the slope is positive, the bounds are 0 and what it is divided by",
        "rounding",
        hard_swish,
        example(_ZERO + _SHIFT + "a@ = Add(t@,h@)\nb@ = Clip(a@,z@,s@)\nc@ = Mul(t@,b@)\nu@ = Div(c@,s@)"),
    ),
    Rule(
        "hard-sigmoid",
        ("Mul", "Div"),
        "Clip(a·x + b, 0, t) / t",
        "HardSigmoid(x)",
        "a is positive",
        "rounding",
        hard_sigmoid,
        example(_ZERO + _SHIFT + "a@ = Add(t@,h@)\nb@ = Clip(a@,z@,s@)\nu@ = Div(b@,s@)"),
    ),
    Rule(
        "unit-ramp",
        ("Clip",),
        "Clip(a·x + b, 0, 1)",
        "HardSigmoid(x)",
        "a is positive",
        "rounding",
        unit_ramp,
        example(
            "z@ = Constant<value_float=0.0>()\no@ = Constant<value_float=1.0>()\n"
            "q@ = Constant<value_float=0.2>()\nf@ = Constant<value_float=0.5>()\n"
            "a@ = Mul(t@,q@)\nb@ = Add(a@,f@)\nu@ = Clip(b@,z@,o@)"
        ),
    ),
    Rule(
        "prelu-written",
        ("Add", "Sub"),
        "Relu(x) + a · min(x, 0), the second as Min, or -Relu(-x)",
        "LeakyRelu(x) where a is one number, else Max(x, a·x)",
        "every a is at most 1 and none is 0, or they are one number",
        "bits",
        prelu_written,
        example("p@ = Relu(t@)\nm@ = Neg(t@)\nn@ = Relu(m@)\nr@ = Mul(n@,less)\nu@ = Add(p@,r@)"),
    ),
    Rule(
        "leaky-relu",
        ("Max",),
        "Max(x, a·x)",
        "LeakyRelu(x)",
        "a is one number, at most 1 and not 0",
        "bits",
        leaky,
        example("q@ = Constant<value_float=0.1>()\na@ = Mul(t@,q@)\nu@ = Max(t@,a@)"),
    ),
    Rule(
        "prelu-chosen",
        ("Where",),
        "Where(x > 0, x, a·x)",
        "LeakyRelu(x) where a is one number, else Max(x, a·x)",
        "every a is at most 1 and none is 0, or they are one number",
        "bits",
        chosen,
        example(
            "z@ = Constant<value_float=0.0>()\nq@ = Constant<value_float=0.1>()\n"
            "g@ = Greater(t@,z@)\na@ = Mul(t@,q@)\nu@ = Where(g@,t@,a@)"
        ),
    ),
    Rule(
        "prelu",
        ("PRelu",),
        "PRelu(x, a)",
        "LeakyRelu(x) where a is one number, else Max(x, a·x)",
        "a is constant; every a is at most 1 and none is 0, or they are one number",
        "bits",
        prelu,
        example("u@ = PRelu(t@,c)"),
    ),
    Rule(
        "prelu-split",
        ("PRelu",),
        "PRelu(x, a)",
        "Relu(x) + a · Min(x, 0)",
        "a is constant",
        "bits",
        prelu_split,
        example("u@ = PRelu(t@,more)"),
    ),
    Rule(
        "max-zero",
        ("Max",),
        "Max(x, 0)",
        "Relu(x)",
        "",
        "bits",
        max_zero,
        example("z@ = Constant<value_float=0.0>()\nu@ = Max(t@,z@)"),
        types=REALS,
    ),
    Rule(
        "relu-min",
        ("Min",),
        "Min(Relu(x), t)",
        "Clip(x, 0, t)",
        "t is positive",
        "bits",
        min_relu,
        example("s@ = Constant<value_float=6.0>()\na@ = Relu(t@)\nu@ = Min(a@,s@)"),
    ),
)
