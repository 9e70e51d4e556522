"""Scales and shifts by constants, folded into the layer before or behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Doubles
from graphprune.ir.nodes import input_of
from graphprune.lowering.layer import Layer, layer_at, padded, per_channel
from graphprune.lowering.rule import FLOATS, REALS, Rewrite, Rule
from graphprune.lowering.rules.activations import example
from graphprune.lowering.scene import Scene, Writer, is_op, number_of

OPS = ("Mul", "Div", "Add", "Sub", "Neg", "BatchNormalization")
SMALLEST = 1e-6
"""A scale that a shift may be divided by."""
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Affine:
    """A node that computes scale · x + shift, element by element, by constants."""

    node: ir.Node
    data: ir.Value
    scale: Doubles
    shift: Doubles


def affine_at(node: ir.Node | None, scene: Scene) -> Affine | None:
    """What a node scales and shifts by; None where it does not."""
    if node is None or not is_op(node, *OPS):
        return None
    zero, one = np.zeros(()), np.ones(())
    data = node.inputs[0]
    if is_op(node, "BatchNormalization"):
        return _norm(node, scene)
    if is_op(node, "Neg"):
        return Affine(node, data, -one, zero) if data is not None else None
    pair = scene.with_array(node)
    if pair is None:
        return None
    data, constant = pair
    first = data is node.inputs[0]
    if is_op(node, "Mul"):
        return Affine(node, data, constant, zero)
    if is_op(node, "Div"):
        usable = first and bool((np.abs(constant) > SMALLEST).all())
        return Affine(node, data, 1 / constant, zero) if usable else None
    if is_op(node, "Add"):
        return Affine(node, data, one, constant)
    return Affine(node, data, one if first else -one, -constant if first else constant)


def _norm(node: ir.Node, scene: Scene) -> Affine | None:
    """A BatchNormalization by stored statistics."""
    given = [scene.array(input_of(node, position)) for position in range(1, 5)]
    rank = len(scene.shape(node.inputs[0]) or ())
    once = len(node.outputs) == 1 and not node.attributes.get_int("training_mode", 0)
    if not once or rank < 2 or any(each is None for each in given) or node.inputs[0] is None:
        return None
    gamma, beta, mean, variance = (each for each in given if each is not None)
    spread = variance + number_of(node, "epsilon", 1e-5)
    if not (spread > 0).all() or node.attributes.get_int("spatial", 1) != 1:
        return None
    scale = gamma / np.sqrt(spread)
    shape = (-1, *[1] * (rank - 2))
    return Affine(node, node.inputs[0], scale.reshape(shape), (beta - mean * scale).reshape(shape))


def behind(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A layer, then a scale or shift per channel."""
    found = affine_at(node, scene)
    layer = layer_at(_read_once(scene.made_by(found.data, *LAYERS)), scene) if found is not None else None
    if found is None or layer is None or not _blocked(node, layer, scene):
        return None
    scale = per_channel(found.scale, layer.axis, layer.rows)
    shift = per_channel(found.shift, layer.axis, layer.rows)
    if scale is None or shift is None or (shift.any() and not layer.takes_bias):
        return None
    content = layer.content if (scale == 1).all() else layer.scaled(rows=scale)
    moved = layer.shift * scale + shift
    bias = layer.shift if (moved == layer.shift).all() else moved
    weights = _changed(layer, content, bias)
    return Rewrite((layer.node, node), lambda to: layer.write(to, layer.data, content, bias), weights)


def _read_once(node: ir.Node | None) -> ir.Node | None:
    """A node whose result one other reads; what it holds is looked at only then."""
    return node if node is not None and len(node.outputs[0].uses()) == 1 else None


def _changed(layer: Layer, content: Doubles, shift: Doubles) -> tuple[ir.Value, ...]:
    """The constants whose content goes into new ones."""
    weights = () if content is layer.content else (layer.weight,)
    return weights if layer.bias is None or shift is layer.shift else (*weights, layer.bias)


def _blocked(node: ir.Node, layer: Layer, scene: Scene) -> bool:
    """Whether ONNX Runtime leaves this one, or one behind it that it would reach through this one."""
    while True:
        if not _fused(node, layer, scene):
            return True
        users = [user for user, _ in node.outputs[0].uses()]
        if len(users) != 1 or users[0].graph is not scene.graph or affine_at(users[0], scene) is None:
            return False
        node = users[0]


def _left_to(found: Affine, scene: Scene) -> bool:
    """Whether ONNX Runtime folds this into a layer before it, which then is one node."""
    source = layer_at(scene.made_by(found.data, *LAYERS), scene)
    alone = source is not None and len(found.data.uses()) == 1
    return alone and source is not None and _fused(found.node, source, scene)


def _fused(node: ir.Node, layer: Layer, scene: Scene) -> bool:
    """Whether ONNX Runtime folds this into the layer before it."""
    if is_op(layer.node, "Conv"):
        if is_op(node, "BatchNormalization"):
            return True
        if not is_op(node, "Mul", "Add"):
            return False
        pair = scene.with_array(node)
        return pair is not None and pair[1].ndim >= layer.axis and pair[1].size == layer.rows > 1
    if is_op(layer.node, "MatMul"):
        return True
    return is_op(layer.node, "Gemm") and is_op(node, "Add", "BatchNormalization")


def before(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A scale or shift per channel, then a layer that pads nothing."""
    found = affine_at(_read_once(scene.made_by(node.inputs[0], *OPS)), scene)
    layer = layer_at(node, scene) if found is not None and not _left_to(found, scene) else None
    if layer is None or found is None:
        return None
    scale = per_channel(found.scale, layer.axis, layer.columns)
    shift = per_channel(found.shift, layer.axis, layer.columns)
    if scale is None or shift is None:
        return None
    if shift.any() and (layer.pads or not layer.takes_bias):
        return None
    if is_op(node, "MatMul") and found.scale.size == 1:
        return None  # ONNX Runtime multiplies by one number as it goes
    content = layer.content if (scale == 1).all() else layer.scaled(columns=scale)
    bias = layer.shift + layer.times(shift) if shift.any() else layer.shift
    weights = _changed(layer, content, bias)
    return Rewrite((found.node, node), lambda to: layer.write(to, found.data, content, bias), weights)


def as_norm(node: ir.Node, scene: Scene) -> Rewrite | None:
    """S · x + t between layers, which a convolution's padding keeps from being folded."""
    add = affine_at(node, scene)
    mul = affine_at(scene.made_by(add.data, "Mul", "Div"), scene) if add is not None else None
    readers = [user for user, _ in node.outputs[0].uses()]
    if add is None or mul is None or not all(is_op(user, "Conv") for user in readers):
        return None
    if not any(padded(user) for user in readers):
        return None
    shape = scene.shape(mul.data)
    if shape is None or len(shape) != 4 or shape[1] is None or shape[1] % 4 or (add.scale != 1).any():
        return None
    scale, shift = (per_channel(each, 3, shape[1]) for each in (mul.scale, add.shift))
    if scale is None or shift is None:
        return None
    return Rewrite((mul.node, node), lambda to: _normalised(to, mul.data, scale, shift))


def _normalised(to: Writer, data: ir.Value, scale: Doubles, shift: Doubles) -> ir.Value:
    statistics = (to.constant(each) for each in (scale, shift, np.zeros_like(scale), np.ones_like(scale)))
    return to.op("BatchNormalization", data, *statistics, attributes={"epsilon": 0.0})


def merged(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Two scales, or two shifts, one after the other."""
    outer = affine_at(node, scene) if not is_op(node, "BatchNormalization") else None
    inner = affine_at(scene.made_by(outer.data, "Mul", "Div", "Add", "Sub"), scene) if outer else None
    if outer is None or inner is None:
        return None
    scales = not outer.shift.any() and not inner.shift.any()
    shifts = (outer.scale == 1).all() and (inner.scale == 1).all()
    if not (scales or shifts):
        return None
    one, two = (outer.scale, inner.scale) if scales else (outer.shift, inner.shift)
    both = one * two if scales else one + two
    if both.size > max(one.size, two.size) or not _usable(both, scales):
        return None
    op, nodes = "Mul" if scales else "Add", (inner.node, node)
    return Rewrite(nodes, lambda to: to.op(op, inner.data, to.constant(both)))


def _usable(content: Doubles, scales: bool) -> bool:
    """Whether half precision, too, holds what two numbers became, if they are not zero."""
    size = np.abs(content)
    return bool(np.isfinite(content).all() and (size < 6e4).all() and (not scales or (size > 1e-4).all()))


_LAB = "k@ = Constant<value_floats=[2.1]>()\nl@ = Constant<value_floats=[0.3]>()\n"

RULES = (
    Rule(
        "affine-behind",
        OPS,
        "s · layer(x) + t, as Mul, Div, Add, Sub, Neg or BatchNormalization",
        "layer'(x)",
        "s and t are constants per channel, in a form that ONNX Runtime does not fold; the layer is a Conv, "
        "ConvTranspose, Gemm or MatMul that nothing else reads",
        "rounding",
        behind,
        example(_LAB + "a@ = Mul(t@,k@)\nb@ = Add(a@,l@)\nu@ = Relu(b@)"),
        types=REALS,
    ),
    Rule(
        "affine-before",
        LAYERS,
        "layer(s · x + t)",
        "layer'(x)",
        "s and t are constants per channel; t is zero where the layer pads or has no bias",
        "rounding",
        before,
        example(_LAB + "a@ = Relu(t@)\nu@ = Mul(a@,k@)"),
        types=REALS,
    ),
    Rule(
        "affine-norm",
        ("Add", "Sub"),
        "s · x + t before a Conv that pads",
        "BatchNormalization(x), which stays in the layout of convolutions",
        "s and t are constants per channel; x has four axes and a multiple of 4 channels",
        "rounding",
        as_norm,
        example(_LAB + "a@ = Relu(t@)\nb@ = Mul(a@,k@)\nu@ = Add(b@,l@)"),
        types=FLOATS,
    ),
    Rule(
        "affine-merged",
        ("Mul", "Div", "Add", "Sub"),
        "a · (b · x), or a + (b + x)",
        "(a · b) · x, or (a + b) + x",
        "a and b are constants, and what they become is no larger",
        "rounding",
        merged,
        example(
            "k@ = Constant<value_floats=[2.1]>()\nl@ = Constant<value_floats=[0.3]>()\n"
            "r@ = Relu(t@)\na@ = Mul(r@,k@)\nb@ = Mul(a@,l@)\nu@ = Mul(b@,r@)"
        ),
    ),
)
