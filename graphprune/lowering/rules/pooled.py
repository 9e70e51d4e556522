"""Squeeze-and-excitation: what is done to the mean of each channel.

A mean of channels that fill no block leaves the layout of convolutions, and each layer behind it enters that
again for one position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphprune.lowering.layer import Layer, layer_at, per_channel
from graphprune.lowering.rule import SINGLES, Rewrite, Rule
from graphprune.lowering.rules.affine import Affine, affine_at
from graphprune.lowering.scene import Attribute, Dims, Scene, Writer, is_op, reduced

BLOCK = 16
"""Channels of a block, on the widest instruction set; means of channels that fill some stay in the layout."""
UNARY = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")


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
    if shape is None or len(shape) != 4 or shape[1] is None:
        return None
    if shape[1] % BLOCK == 0 and is_op(chain.nodes[0], "GlobalAveragePool"):
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
    while at is not None and not _is_mean(at, scene):
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


def _is_mean(node: ir.Node, scene: Scene) -> bool:
    """Whether a node makes the mean of each channel, one position of each."""
    if not is_op(node, "GlobalAveragePool", "ReduceMean"):
        return False
    shape = scene.shape(node.inputs[0])
    if shape is None or len(shape) != 4:
        return False
    return is_op(node, "GlobalAveragePool") or reduced(node, 4) == (2, 3)


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


_WIDE = "t = Conv<kernel_shape=[1,1]>(x,{0})\nu = Relu(t)\n"
_SQUEEZED = (
    "g = GlobalAveragePool(u)\nh = Conv<kernel_shape=[1,1]>(g,{0})\ni = Relu(h)\n"
    "j = Conv<kernel_shape=[1,1]>(i,{1})\nk = HardSigmoid(j)\n"
)

RULES = (
    Rule(
        "pooled-gemm",
        (*UNARY, "Conv", "Add"),
        "1×1 convolutions, shifts and activations behind GlobalAveragePool(x), or ReduceMean(x)",
        "ReduceMean, then Gemm for each convolution",
        f"x has four axes, and for GlobalAveragePool no multiple of {BLOCK} channels",
        "rounding",
        pooled,
        _WIDE.format("open") + _SQUEEZED.format("down", "up") + "m = Mul(u,k)\n"
        "y = Conv<kernel_shape=[1,1]>(m,close)",
        types=SINGLES,
    ),
)
