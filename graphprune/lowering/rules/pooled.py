"""Squeeze-and-excitation: what is done to the mean of each channel, and the product by what comes of it.

A product with one number per channel leaves the blocked layout of convolutions, there and back; so does a
mean of channels that fill no block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx_ir as ir

from graphprune.lowering.layer import Layer, layer_at, per_channel
from graphprune.lowering.rule import Rewrite, Rule
from graphprune.lowering.rules.affine import Affine, affine_at
from graphprune.lowering.scene import Attribute, Dims, Scene, Writer, is_op, operands

BLOCK = 16
"""Channels of a block, on the widest instruction set; means of channels that fill some stay in the layout."""
UNARY = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")
SINGLES = frozenset([ir.DataType.FLOAT])
MORE = 2
"""Positions per row of a layer from which on scaling its weight costs less than scaling what it reads."""
SLICED = 10
"""Opset from which on Slice takes what to cut off as inputs."""
OPEN = 32
"""Rows up to which it is taken to do so where the number of positions is open."""


@dataclass(frozen=True)
class _Chain:
    """1×1 convolutions, shifts and activations behind a mean, from that on, and the nodes of both."""

    data: ir.Value
    steps: tuple[Layer | Affine | ir.Node, ...]
    nodes: tuple[ir.Node, ...]


def pooled(node: ir.Node, scene: Scene) -> Rewrite | None:
    """Layers of one position behind a mean, as products of matrices."""
    chain = None if _goes_on(node, scene) else _chain(node, scene)
    if chain is None or not any(isinstance(step, Layer) for step in chain.steps):
        return None
    shape = scene.shape(chain.data)
    if shape is None or len(shape) != 4 or shape[1] is None or shape[1] % BLOCK == 0:
        return None
    weights = tuple(each for step in chain.steps if isinstance(step, Layer) for each in step.constants)
    return Rewrite(chain.nodes, lambda to: _multiplied(to, chain), weights)


def _goes_on(node: ir.Node, scene: Scene) -> bool:
    """Whether one reader alone takes a step further."""
    users = [user for user, _ in node.outputs[0].uses()]
    return len(users) == 1 and users[0].graph is scene.graph and _step(users[0], scene) is not None


def _chain(node: ir.Node, scene: Scene) -> _Chain | None:
    steps: list[Layer | Affine | ir.Node] = []
    nodes: list[ir.Node] = []
    at: ir.Node | None = node
    while at is not None and not is_op(at, "GlobalAveragePool"):
        step = _step(at, scene)
        if step is None:
            return None
        steps.insert(0, step)
        nodes.insert(0, at)
        data = at.inputs[0] if isinstance(step, ir.Node) else step.data
        at = data.producer() if data is not None else None
    if at is None or at.graph is not scene.graph or at.inputs[0] is None:
        return None
    return _Chain(at.inputs[0], tuple(_folded(steps)), (at, *nodes))


def _folded(steps: Sequence[Layer | Affine | ir.Node]) -> Iterator[Layer | Affine | ir.Node]:
    """The same steps, with shifts made part of the layers before them."""
    layer: Layer | None = None
    for step in steps:
        if layer is not None and isinstance(step, Affine):
            layer = replace(layer, shift=layer.shift + step.shift)
            continue
        if layer is not None:
            yield layer
        layer = step if isinstance(step, Layer) else None
        if layer is None:
            yield step
    if layer is not None:
        yield layer


def _step(node: ir.Node, scene: Scene) -> Layer | Affine | ir.Node | None:
    """What a node does to one position, if nothing else is needed for it."""
    if is_op(node, *UNARY):
        return node
    if is_op(node, "Conv"):
        layer = layer_at(node, scene)
        return layer if layer is not None and _is_pointwise(layer) else None
    if not is_op(node, "Add"):
        return None
    shape, found = scene.shape(node.outputs[0]), affine_at(node, scene)
    if found is None or shape is None or len(shape) != 4 or shape[1] is None:
        return None
    moved = per_channel(found.shift, 3, shape[1])
    return None if moved is None else replace(found, shift=moved)


def _is_pointwise(layer: Layer) -> bool:
    """Whether a layer reads one position of all channels for one of its own."""
    strides = layer.node.attributes.get_ints("strides", ())
    one = layer.content.shape[0] == 1 and layer.content.shape[3] == 1
    return one and layer.axis == 3 and not layer.pads and all(stride == 1 for stride in strides)


def _multiplied(to: Writer, chain: _Chain) -> ir.Value:
    scene = to.scene
    batch, channels = (scene.sizes.shapes[chain.data] or ())[:2]
    value = _mean(to, chain.data, (batch, channels))
    for step in chain.steps:
        dims = scene.sizes.shapes[value]
        if isinstance(step, Layer):
            weight, shift = to.constant(step.content[0, :, :, 0]), to.constant(step.shift)
            dims = (batch, (step.rows, step.rows))
            value = to.op("Gemm", value, weight, shift, dims=dims, attributes={"transB": 1})
        elif isinstance(step, Affine):
            value = to.op("Add", value, to.constant(step.shift), dims=dims)
        else:
            attributes: dict[str, Attribute] = dict(step.attributes)
            value = to.op(step.op_type, value, dims=dims, attributes=attributes)
    return to.op("Reshape", value, to.whole(0, -1, 1, 1))


def _mean(to: Writer, data: ir.Value, dims: Dims) -> ir.Value:
    """The mean of each channel, without axes for positions."""
    if to.scene.opset >= 18:
        return to.op("ReduceMean", data, to.whole(2, 3), dims=dims, attributes={"keepdims": 0})
    axes = ir.AttrInt64s("axes", [2, 3])
    return to.op("ReduceMean", data, dims=dims, attributes={"axes": axes, "keepdims": 0})


def gated(node: ir.Node, scene: Scene) -> Rewrite | None:
    """A 1×1 convolution of x · g, with one number of g per sample and channel."""
    norm = affine_at(node, scene) if is_op(node, "BatchNormalization") else None
    conv = scene.made_by(norm.data, "Conv") if norm is not None else node
    layer = layer_at(conv, scene)
    if conv is None or layer is None or not _is_pointwise(layer) or _activated(node, scene):
        return None
    product = scene.made_by(layer.data, "Mul")
    if product is None:
        return None
    for data, gate in operands(product):
        shape, other = scene.shape(data), scene.shape(gate)
        if shape is None or other is None or len(shape) != 4 or len(other) != 4:
            continue
        if not _is_gate(shape, other) or not _worth(shape, layer.rows, scene.opset):
            continue
        gate, turned = _flat(gate, scene)
        nodes = dict.fromkeys((*turned, product, conv, node))
        build = partial(_gated, layer=layer, norm=norm, data=data, gate=gate)
        return Rewrite(tuple(nodes), build, layer.constants)
    return None


def _activated(node: ir.Node, scene: Scene) -> bool:
    """Whether a convolution goes on with what ONNX Runtime makes a part of it."""
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].graph is not scene.graph:
        return False
    return is_op(users[0], *UNARY, "Clip", "BatchNormalization") or affine_at(users[0], scene) is not None


def _is_gate(shape: tuple[int | None, ...], gate: tuple[int | None, ...]) -> bool:
    return gate[1:] == (shape[1], 1, 1) and shape[1] is not None and shape[2:] != (1, 1)


def _worth(shape: tuple[int | None, ...], rows: int, opset: int) -> bool:
    """Whether the weight, once per sample, is smaller than what it is multiplied with."""
    if shape[2] is None or shape[3] is None:
        return rows <= OPEN and opset >= SLICED
    return shape[2] * shape[3] >= MORE * rows


def _gated(to: Writer, layer: Layer, norm: Affine | None, data: ir.Value, gate: ir.Value) -> ir.Value:
    scene = to.scene
    content, shift = layer.content, layer.shift
    if norm is not None:
        scale = norm.scale.ravel()
        content, shift = layer.scaled(rows=scale), shift * scale + norm.shift.ravel()
    batch, channels, *space = scene.sizes.shapes[data] or ()
    rows = (layer.rows, layer.rows)
    line = to.op("Reshape", gate, to.whole(0, 1, -1), dims=(batch, (1, 1), channels))
    weight = to.op("Mul", to.constant(content[:, :, :, 0]), line, dims=(batch, rows, channels))
    flat = (1, 1) if None in space else tuple(a * b for a, b in zip(*space, strict=True))
    columns = to.op("Reshape", data, to.whole(0, layer.columns, -1), dims=(batch, channels, flat))
    made = to.op("MatMul", weight, columns, dims=(batch, rows, flat))
    if shift.any():
        made = to.op("Add", made, to.constant(shift[:, None]), dims=(batch, rows, flat))
    return to.op("Reshape", made, _shape_like(to, data, layer.rows))


def _flat(gate: ir.Value, scene: Scene) -> tuple[ir.Value, tuple[ir.Node, ...]]:
    """A gate before it got axes for positions, and what added them, where nothing else reads that."""
    turned = scene.made_by(gate, "Reshape")
    source = turned.inputs[0] if turned is not None else None
    own, before = scene.sizes.shapes.get(gate), scene.sizes.shapes.get(source) if source is not None else None
    if turned is None or source is None or own is None or before != own[:2] or len(gate.uses()) != 1:
        return gate, ()
    return source, (turned,)


def _shape_like(to: Writer, data: ir.Value, channels: int) -> ir.Value:
    """The shape of a value, with other channels."""
    shape = to.scene.shape(data) or ()
    if shape[2] is not None and shape[3] is not None:
        return to.whole(0, channels, shape[2], shape[3])
    sizes = to.op("Shape", data, dims=((4, 4),), dtype=ir.DataType.INT64)
    ends = (to.whole(each) for each in (2, 4, 0))
    space = to.op("Slice", sizes, *ends, dims=((2, 2),), dtype=ir.DataType.INT64)
    head = to.whole(0, channels)
    return to.op("Concat", head, space, dims=((4, 4),), dtype=ir.DataType.INT64, attributes={"axis": 0})


_WIDE = "t = Conv<kernel_shape=[1,1]>(x,{0})\nu = Relu(t)\n"
_SQUEEZED = (
    "g = GlobalAveragePool(u)\nh = Conv<kernel_shape=[1,1]>(g,{0})\ni = Relu(h)\n"
    "j = Conv<kernel_shape=[1,1]>(i,{1})\nk = HardSigmoid(j)\n"
)

RULES = (
    Rule(
        "pooled-gemm",
        (*UNARY, "Conv", "Add"),
        "1×1 convolutions, shifts and activations behind GlobalAveragePool(x)",
        "ReduceMean, then Gemm for each convolution",
        f"x has four axes, and no multiple of {BLOCK} channels",
        "rounding",
        pooled,
        _WIDE.format("open") + _SQUEEZED.format("down", "up") + "m = Mul(u,k)\n"
        "y = Conv<kernel_shape=[1,1]>(m,close)",
        types=SINGLES,
    ),
    Rule(
        "gate-in-weight",
        ("Conv", "BatchNormalization"),
        "Conv(x · g), 1×1, with one number of g per sample and channel",
        "MatMul of the convolution's weight times g with x",
        "nothing that ONNX Runtime makes a part of the convolution follows; the weight has at most half as "
        f"many rows as x positions, or {OPEN} rows where those are open",
        "rounding",
        gated,
        _WIDE.format("open96") + _SQUEEZED.format("down96", "up96") + "m = Mul(u,k)\n"
        "y = Conv<kernel_shape=[1,1]>(m,close96)",
        types=SINGLES,
    ),
)
