"""What only moves elements, or does the same to each slice of a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.ir.evaluate import CannotEvaluateError, axes_of, slice_bounds
from graphprune.ir.nodes import input_of, is_constant
from graphprune.lowering.rule import REALS, Rewrite, Rule
from graphprune.lowering.scene import Scene, Writer, is_op

UNARY = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Softplus", "Neg", "Exp")
BINARY = ("Add", "Sub", "Mul", "Div")
COUNTED = REALS | {ir.DataType.INT64, ir.DataType.INT32}


def _axes(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """The axes that a Squeeze or Unsqueeze names, from zero on; None where they are not known."""
    given = input_of(node, 1)
    if given is not None and not is_constant(given):
        return None
    try:
        found = axes_of([None, _content(given)], node.attributes)
    except CannotEvaluateError:
        return None
    return None if found is None else tuple(axis % rank for axis in found)


def _content(value: ir.Value | None) -> Array | None:
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())


def sunk(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A Squeeze between a convolution and what is done to each of its elements."""
    data, constant = node.inputs[0], None
    if is_op(node, *BINARY):
        pair = scene.with_array(node)
        if pair is None:
            return None
        data, constant = pair
    squeeze = scene.made_by(data, "Squeeze")
    source = squeeze.inputs[0] if squeeze is not None else None
    if squeeze is None or source is None or not _of_layer(source, scene):
        return None
    shape = scene.shape(source)
    axes = _axes(squeeze, len(shape)) if shape is not None else None
    if shape is None or axes is None:
        return None
    moved = None if constant is None else _widened(constant, len(shape), axes)
    order = 0 if data is node.inputs[0] else 1
    return Rewrite((squeeze, node), lambda to: _sunk(to, node, squeeze, moved, order))


def _of_layer(value: ir.Value, scene: Scene) -> bool:
    """Whether a layer makes a value, with nothing but such elementwise operators behind it."""
    for _ in range(4):
        node = scene.made_by(value, "Conv", *UNARY, *BINARY)
        if node is None:
            return False
        if is_op(node, "Conv"):
            return True
        inputs = [each for each in node.inputs if each is not None and not is_constant(each)]
        if len(inputs) != 1:
            return False
        value = inputs[0]
    return False


def _widened(content: Array, rank: int, axes: tuple[int, ...]) -> Array:
    """A constant beside the squeezed value as one beside the value before."""
    full = content.reshape((1,) * (rank - len(axes) - content.ndim) + content.shape)
    return np.expand_dims(full, sorted(axes)) if content.ndim else content


def _sunk(to: Writer, node: ir.Node, squeeze: ir.Node, moved: Array | None, order: int) -> ir.Value:
    source = squeeze.inputs[0]
    operands = [source] if moved is None else [source, to.constant(moved)]
    attributes = dict(node.attributes)
    done = to.op(node.op_type, *(operands[::-1] if order else operands), like=source, attributes=attributes)
    kept = dict(squeeze.attributes)
    return to.op("Squeeze", done, *squeeze.inputs[1:], attributes=kept)


@dataclass(frozen=True)
class _Lane:
    """One input of a Concat, as what is done to one slice of a value: the steps from the slice on."""

    source: ir.Value
    axis: int
    place: int
    steps: tuple[ir.Node, ...]
    nodes: tuple[ir.Node, ...]


def unrolled(node: ir.Node, scene: Scene) -> Rewrite | None:
    """The same steps done to every slice along an axis, and the results put together again."""
    rank = len(scene.shape(node.outputs[0]) or ())
    axis = node.attributes.get_int("axis", 0) % max(1, rank)
    if rank < 2 or axis == rank - 1 or len(node.inputs) < 2:
        return None
    lanes: list[_Lane] = []
    for value in node.inputs:
        lane = _lane(value, axis, rank, scene)
        if lane is None or (lanes and not _same(lanes[0], lane)):
            return None
        lanes.append(lane)
    first = lanes[0]
    shape = scene.shape(first.source)
    if shape is None or len(shape) != rank or shape[axis] != len(lanes):
        return None
    if [lane.place for lane in lanes] != list(range(len(lanes))):
        return None
    gone = dict.fromkeys(each for lane in lanes for each in lane.nodes)
    if not first.steps and node.outputs[0].is_graph_output():
        return None
    return Rewrite((*gone, node), lambda to: _once(to, first))


def _lane(value: ir.Value | None, axis: int, rank: int, scene: Scene) -> _Lane | None:
    last = scene.made_by(value, "Unsqueeze")
    if last is None or _axes(last, rank) != (axis,):
        return None
    steps: list[ir.Node] = []
    value = last.inputs[0]
    while (step := scene.made_by(value, "MatMul", *UNARY, *BINARY)) is not None:
        data = _step(step, scene)
        if data is None or len(steps) > 8:
            return None
        steps.insert(0, step)
        value = data
    found = _slice(value, axis, rank, scene)
    return None if found is None else _Lane(found[0], axis, found[1], tuple(steps), (*found[2], *steps, last))


def _step(node: ir.Node, scene: Scene) -> ir.Value | None:
    """What a step is done to, where it is the same for the last axis of any value."""
    if is_op(node, *UNARY):
        return node.inputs[0]
    if is_op(node, "MatMul"):
        weight = _content(node.inputs[1]) if is_constant(node.inputs[1]) else None
        return node.inputs[0] if weight is not None and weight.ndim == 2 else None
    pair = scene.with_array(node)
    return pair[0] if pair is not None and pair[1].ndim <= 1 else None


def _slice(
    value: ir.Value | None, axis: int, rank: int, scene: Scene
) -> tuple[ir.Value, int, tuple[ir.Node, ...]] | None:
    """(source, place, nodes): a value that is one slice of another, without that axis."""
    squeeze = scene.made_by(value, "Squeeze")
    if squeeze is None or _axes(squeeze, rank) != (axis,):
        return None
    part = scene.made_by(squeeze.inputs[0], "Slice")
    source = part.inputs[0] if part is not None else None
    if (
        part is None
        or source is None
        or not all(each is None or is_constant(each) for each in part.inputs[1:])
    ):
        return None
    given = [_content(each) for each in part.inputs]
    try:
        ((where, start, end, step),) = slice_bounds(given, part.attributes, rank)
    except (CannotEvaluateError, ValueError, KeyError):
        return None
    if where != axis or step != 1 or end != start + 1 or start < 0:
        return None
    return source, start, (part, squeeze)


def _same(one: _Lane, two: _Lane) -> bool:
    """Whether two lanes do the same to slices of one value."""
    return (
        one.source is two.source
        and len(one.steps) == len(two.steps)
        and all(
            a.op_type == b.op_type
            and {name: attr.value for name, attr in a.attributes.items()}
            == {name: attr.value for name, attr in b.attributes.items()}
            and len(a.inputs) == len(b.inputs)
            and all(
                x is y or not (is_constant(x) or is_constant(y))
                for x, y in zip(a.inputs, b.inputs, strict=True)
            )
            for a, b in zip(one.steps, two.steps, strict=True)
        )
    )


def _once(to: Writer, lane: _Lane) -> ir.Value:
    value = lane.source
    for step in lane.steps:
        inputs = [each if is_constant(each) else value for each in step.inputs]
        attributes = dict(step.attributes)
        value = to.op(step.op_type, *inputs, attributes=attributes)
    return value


def joined(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A Concat of all that a Split took apart."""
    split = scene.made_by(node.inputs[0], "Split")
    source = split.inputs[0] if split is not None else None
    if split is None or source is None or tuple(node.inputs) != tuple(split.outputs):
        return None
    rank = len(scene.shape(source) or ())
    axes = [each.attributes.get_int("axis", 0) for each in (split, node)]
    if not rank or axes[0] % rank != axes[1] % rank or node.outputs[0].is_graph_output():
        return None
    return Rewrite((split, node), lambda to: source)


def uncut(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A Slice that leaves everything."""
    data, shape = node.inputs[0], scene.shape(node.inputs[0])
    constant = all(each is None or is_constant(each) for each in node.inputs[1:])
    if data is None or shape is None or not constant or node.outputs[0].is_graph_output():
        return None
    try:
        bounds = slice_bounds([_content(each) for each in node.inputs], node.attributes, len(shape))
    except (CannotEvaluateError, ValueError, KeyError):
        return None
    sizes = ((shape[axis], start, end, step) for axis, start, end, step in bounds)
    if any(size is None or start or end < size or step != 1 for size, start, end, step in sizes):
        return None
    return Rewrite((node,), lambda to: data)


def _unrolled(count: int) -> str:
    """An example: a product and a bias on each of so many slices."""
    lines = [
        f"n = Constant<value_ints=[{count},{896 // count},28]>()",
        "a = Constant<value_ints=[0]>()",
        "r = Reshape(x,n)",
    ]
    for i in range(count):
        lines += [
            f"s{i} = Constant<value_ints=[{i}]>()",
            f"e{i} = Constant<value_ints=[{i + 1}]>()",
            f"p{i} = Slice(r,s{i},e{i},a)",
            f"z{i} = Squeeze(p{i},a)",
            f"t{i} = MatMul(z{i},matrix)",
            f"d{i} = Add(t{i},b)",
            f"u{i} = Unsqueeze(d{i},a)",
        ]
    joined = ",".join(f"u{i}" for i in range(count))
    return "\n".join([*lines, f"y = Concat<axis=0>({joined})"])


RULES = (
    Rule(
        "squeeze-sinks",
        (*UNARY, *BINARY),
        "f(Squeeze(Conv(x)))",
        "Squeeze(f(Conv(x)))",
        "f works element by element, alone or with a constant",
        "bits",
        sunk,
        "n = Constant<value_ints=[1,32,1,784]>()\na = Constant<value_ints=[2]>()\n"
        "e = Constant<value_ints=[32,1]>()\nr = Reshape(x,n)\nt = Conv<kernel_shape=[1,1]>(r,v)\n"
        "s = Squeeze(t,a)\nd = Reshape(b,e)\np = Add(s,d)\ny = Relu(p)",
    ),
    Rule(
        "unrolled",
        ("Concat",),
        "Concat of f(slice 0), f(slice 1), ... of x",
        "f(x)",
        "f is made of products with constant matrices, constants and activations along the last axis, "
        "the same for each slice; the slices are all there are, in order",
        "bits",
        unrolled,
        _unrolled(8),
    ),
    Rule(
        "split-concat",
        ("Concat",),
        "Concat(Split(x))",
        "x",
        "all parts, in order, along the same axis",
        "bits",
        joined,
        "h = Constant<value_ints=[16,16]>()\nt = Relu(x)\na,d = Split<axis=1>(t,h)\n"
        "e = Concat<axis=1>(a,d)\ny = Relu(e)",
        types=COUNTED,
    ),
    Rule(
        "slice-all",
        ("Slice",),
        "Slice(x) of all that is there",
        "x",
        "the sizes of x along its axes are known",
        "bits",
        uncut,
        "s = Constant<value_ints=[0]>()\ne = Constant<value_ints=[32]>()\na = Constant<value_ints=[1]>()\n"
        "t = Conv<kernel_shape=[1,1]>(x,v)\nu = Relu(t)\nf = Slice(u,s,e,a)\n"
        "y = Conv<kernel_shape=[1,1]>(f,v)",
        types=COUNTED,
    ),
)
