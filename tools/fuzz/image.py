"""Blocks of convolutional networks. Each takes and returns a Signal of shape [N, C, H, W]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tools.fuzz.net import Net, Signal, Slots, repeated, top

ZERO_PRESERVING = (
    "Relu",
    "LeakyRelu",
    "Tanh",
    "Elu",
    "Softsign",
    "Clip",
    "PRelu",
    "Silu",
    "Gelu",
    "HardSwish",
)
OTHERS = ("Sigmoid", "Softplus", "Exp")


def conv(
    net: Net,
    x: Signal,
    out: Slots,
    kernel: int = 3,
    stride: int = 1,
    group: int = 1,
    bias: bool | None = None,
) -> Signal:
    """A convolution from x to the given channels."""
    inner = x.slots if group == 1 else top(x.width // group)
    shape = (len(out), len(inner), kernel, kernel)
    w = net.const(net.weight(shape, {0: out}, {1: inner}, len(inner) * kernel * kernel), "conv_w")
    inputs = [x.value, w] + (
        [net.const(net.vector(out), "conv_b")] if (net.flip() if bias is None else bias) else []
    )
    half = kernel // 2
    attributes = {"pads": [half] * 4, "strides": [stride] * 2, "group": group}
    space = tuple((n + 2 * half - kernel) // stride + 1 for n in x.space)
    return Signal(net.op("Conv", *inputs, **attributes), out, space)


def norm(net: Net, x: Signal) -> Signal:
    """BatchNormalization in inference form."""
    variance = net.numbers.uniform(0.5, 1.5, x.width).astype(net.kind)
    vectors = [net.vector(x.slots, 1.0), net.vector(x.slots), net.vector(x.slots), variance]
    weights = [net.const(v, "bn") for v in vectors]
    return Signal(net.op("BatchNormalization", x.value, *weights), x.slots, x.space)


def act(net: Net, x: Signal) -> Signal:
    """An activation; zeros stay zeros in graphs that promise it."""
    names = ZERO_PRESERVING if net.style.zero_preserving else ZERO_PRESERVING + OTHERS
    return Signal(activated(net, x, names[net.choice.integers(len(names))]), x.slots, x.space)


def activated(net: Net, x: Signal, name: str) -> ir.Value:
    if name == "Clip":
        return net.op("Clip", x.value, net.scalar(-0.5), net.scalar(2.0))
    if name == "PRelu":
        slope = net.vector(x.slots, 0.25, 0.1).reshape(-1, *[1] * (len(x.space) if len(x.space) == 2 else 0))
        return net.op("PRelu", x.value, net.const(slope, "slope"))
    if name == "Silu" or (name == "HardSwish" and net.style.opset < 14):
        return net.op("Mul", x.value, net.op("Sigmoid", x.value))
    if name == "Gelu" and net.style.opset < 20:
        half = net.op("Mul", x.value, net.scalar(0.5))
        return net.op(
            "Mul",
            half,
            net.op("Add", net.op("Erf", net.op("Div", x.value, net.scalar(1.4142135))), net.scalar(1.0)),
        )
    if name == "Exp":
        return net.op("Exp", net.op("Tanh", x.value))
    return net.op(name, x.value)


def plain_conv(net: Net, x: Signal) -> Signal:
    """conv, perhaps norm, activation."""
    y = conv(
        net, x, net.width(net.pick(4, 8, 12)), net.pick(1, 3), net.pick(1, 1, 2) if min(x.space) > 2 else 1
    )
    return act(net, norm(net, y) if net.flip() else y)


def residual(net: Net, x: Signal) -> Signal:
    """Two convolutions around the stream."""
    y = act(net, norm(net, conv(net, x, net.width(net.pick(4, 8)))))
    y = conv(net, y, x.slots)
    if net.flip():
        y = norm(net, y)
    return act(net, Signal(net.op("Add", y.value, x.value), x.slots, x.space))


def bottleneck(net: Net, x: Signal) -> Signal:
    """Projection shortcut: both branches end in the same new width, which starts a stream."""
    out = net.width(net.pick(8, 12))
    a, b = conv(net, x, out, 1), conv(net, act(net, conv(net, x, net.width(4), 1)), out)
    return act(net, Signal(net.op("Add", a.value, b.value), out, x.space))


def padded_shortcut(net: Net, x: Signal) -> Signal:
    """Option A: the shortcut's missing channels are zeros."""
    before, after = net.pick(0, 2), net.pick(2, 4)
    new = net.width(before + after)
    out = (*new[:before], *x.slots, *new[before:])
    pads = net.ints(0, before, 0, 0, 0, after, 0, 0)
    y = conv(net, x, out)
    return Signal(net.op("Add", y.value, net.op("Pad", x.value, pads)), out, x.space)


def depthwise(net: Net, x: Signal) -> Signal:
    """Depthwise separable, with a multiplier of 1 or 2."""
    multiplier = net.pick(1, 1, 2)
    if not net.exact and multiplier == 2:
        multiplier = 1
    out = repeated(x.slots, multiplier)
    w = net.const(net.weight((len(out), 1, 3, 3), {0: out}, {}, 9), "dw_w")
    inputs = [x.value, w] + ([net.const(net.vector(out), "dw_b")] if net.flip() else [])
    y = Signal(net.op("Conv", *inputs, pads=[1] * 4, group=x.width), out, x.space)
    return conv(net, act(net, y), net.width(8), 1)


def grouped(net: Net, x: Signal) -> Signal:
    """A grouped convolution between 1x1 convolutions."""
    x = act(net, conv(net, x, net.width(8), 1))
    group = net.pick(2, 2, 4)
    y = act(net, conv(net, x, net.width(net.pick(8, 16)), 3, group=group))
    return conv(net, y, net.width(8), 1) if net.flip() else y


def inception(net: Net, x: Signal) -> Signal:
    """Branches side by side."""
    parts = [
        act(net, conv(net, x, net.width(net.pick(2, 4, 6)), net.pick(1, 3))) for _ in range(net.pick(2, 3))
    ]
    slots = tuple(slot for part in parts for slot in part.slots)
    return Signal(net.op("Concat", *[part.value for part in parts], axis=1), slots, x.space)


def dense(net: Net, x: Signal) -> Signal:
    """The block's output beside its input."""
    y = act(net, conv(net, x, net.width(4)))
    return Signal(net.op("Concat", x.value, y.value, axis=1), (*x.slots, *y.slots), x.space)


def doubled(net: Net, x: Signal) -> Signal:
    """Concat([u, u])."""
    y = act(net, conv(net, x, net.width(4)))
    return Signal(net.op("Concat", y.value, y.value, axis=1), (*y.slots, *y.slots), y.space)


def gate(net: Net, x: Signal) -> Signal:
    """Gated linear unit on channels: both halves of one convolution go together."""
    half = net.width(net.pick(4, 8))
    y = conv(net, x, (*half, *half))
    a, b = net.split(y.value, 1, len(half), len(half))
    return Signal(net.op("Mul", a, net.op("Sigmoid", b)), half, x.space)


def parted(net: Net, x: Signal) -> Signal:
    """Split with different readers, and a branch that ends in a slice."""
    a, b = net.width(4), net.width(6)
    y = act(net, conv(net, x, (*a, *b)))
    if net.flip():
        left, right = net.split(y.value, 1, len(a), len(b))
    else:
        left, right = net.slice(y.value, 1, 0, len(a)), net.slice(y.value, 1, -len(b), 1 << 30)
    one = conv(net, Signal(left, a, x.space), net.width(4))
    two = conv(net, Signal(right, b, x.space), one.slots)
    return Signal(net.op("Add", one.value, two.value), one.slots, x.space)


def excite(net: Net, x: Signal) -> Signal:
    """Squeeze and excitation."""
    pooled = net.op("GlobalAveragePool", x.value) if net.flip() else net.reduce("ReduceMean", x.value, 2, 3)
    small = conv(net, Signal(pooled, x.slots, (1, 1)), net.width(4), 1)
    scores = conv(net, Signal(net.op("Relu", small.value), small.slots, (1, 1)), x.slots, 1)
    gates = net.op("HardSigmoid" if net.flip() else "Sigmoid", scores.value)
    return Signal(net.op("Mul", x.value, gates), x.slots, x.space)


def spatial_gate(net: Net, x: Signal) -> Signal:
    """Attention over pixels from a reduction over channels."""
    value = net.op("Relu", x.value)
    kinds = ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2")
    kind = kinds[net.choice.integers(len(kinds))]
    net.exact = False  # a second reduction behind a mean is pinned on purpose
    score = net.reduce(kind, value, 1)
    w = net.const(net.weight((1, 1, 3, 3), {}, {}, 9), "pixel_w")
    gates = net.op("Sigmoid", net.op("Conv", score, w, pads=[1] * 4))
    return Signal(net.op("Mul", value, gates), x.slots, x.space)


def pool(net: Net, x: Signal) -> Signal:
    """Pooling or resampling."""
    if min(x.space) > 3 and net.flip(0.7):
        kind = "MaxPool" if net.flip() else "AveragePool"
        return Signal(
            net.op(kind, x.value, kernel_shape=[2, 2], strides=[2, 2]),
            x.slots,
            tuple(n // 2 for n in x.space),
        )
    scales = net.const(np.array([1, 1, 2, 2], np.float32), "scales")
    roi = net.const(np.zeros(0, np.float32), "roi") if net.style.opset < 13 else None
    return Signal(
        net.op("Resize", x.value, roi, scales, mode="nearest"), x.slots, tuple(2 * n for n in x.space)
    )


def transposed(net: Net, x: Signal) -> Signal:
    """ConvTranspose: plain, grouped or depthwise."""
    x = act(net, conv(net, x, net.width(8), 1))
    group = net.pick(1, 2, 8)
    out = x.slots if group == 8 else net.width(8)
    rows = {0: x.slots} if group == 8 else {1: out} if group == 1 else {}
    w = net.weight((8, 8 // group, 2, 2), rows, {}, 8 // group * 4)
    if group == 2:  # row q*4+i writes to channel q*4+j through w[q*4+i, j]
        dead = net.dead(out).reshape(2, 4)
        w = np.where(np.repeat(dead, 4, axis=0)[:, :, None, None], 0, w).astype(net.kind)
    inputs = [x.value, net.const(w, "up_w")] + ([net.const(net.vector(out), "up_b")] if net.flip() else [])
    value = net.op("ConvTranspose", *inputs, strides=[2, 2], group=group)
    return conv(net, act(net, Signal(value, out, tuple(2 * n for n in x.space))), net.width(8), 3, 2)


def shuffle(net: Net, x: Signal) -> Signal:
    """Channel shuffle as Reshape-Transpose-Reshape, or as a constant Gather."""
    y = conv(net, x, net.width(8))
    if net.flip():
        value = net.reshape(y.value, 0, 2, 4, *x.space)
        value = net.reshape(net.transpose(value, 0, 2, 1, 3, 4), 0, 8, *x.space)
        order = np.arange(8).reshape(2, 4).T.ravel()
    else:
        order = net.choice.permutation(8)
        value = net.op("Gather", y.value, net.const(order.astype(np.int64), "order"), axis=1)
    out = tuple(y.slots[i] for i in order)
    return conv(net, act(net, Signal(value, out, x.space)), net.width(8), 1)


def pixels(net: Net, x: Signal) -> Signal:
    """Pixel shuffle, fused in both modes or decomposed, then back."""
    out, form = net.width(4), net.pick(0, 1, 2)
    if form == 1:
        y = conv(net, x, (*out, *out, *out, *out))
        value = net.op("DepthToSpace", y.value, blocksize=2, mode="DCR")
    else:
        y = conv(net, x, repeated(out, 4))
        value = (
            net.op("DepthToSpace", y.value, blocksize=2, mode="CRD")
            if form == 0
            else _decomposed_pixels(net, y)
        )
    big = act(net, Signal(value, out, tuple(2 * n for n in x.space)))
    if net.flip():
        return conv(net, big, net.width(8), 3, 2)
    small = net.op("SpaceToDepth", big.value, blocksize=2)
    return conv(net, Signal(small, (*out, *out, *out, *out), x.space), net.width(8), 1)


def _decomposed_pixels(net: Net, y: Signal) -> ir.Value:
    h, w = y.space
    value = net.transpose(net.reshape(y.value, 0, 4, 2, 2, h, w), 0, 1, 4, 2, 5, 3)
    return net.reshape(value, 0, 4, 2 * h, 2 * w)


def group_norm(net: Net, x: Signal) -> Signal:
    """Whole groups are Units: fused (opset 21) or Reshape-InstanceNormalization-Reshape."""
    groups = net.width(4)
    y = conv(net, x, repeated(groups, 2))
    scale, bias = net.vector(y.slots, 1.0), net.vector(y.slots)
    if net.style.opset >= 21 and net.flip():
        value = net.op("GroupNormalization", y.value, net.const(scale), net.const(bias), num_groups=4)
        return act(net, Signal(value, y.slots, x.space))
    ones, zeros = np.ones(4, net.kind), np.zeros(4, net.kind)
    flat = net.reshape(y.value, 0, 4, -1)
    normal = net.op("InstanceNormalization", flat, net.const(ones), net.const(zeros))
    back = net.reshape(normal, 0, 8, *x.space)
    scaled = net.op("Mul", back, net.const(scale.reshape(8, 1, 1)))
    return act(net, Signal(net.op("Add", scaled, net.const(bias.reshape(8, 1, 1))), y.slots, x.space))


def instance_norm(net: Net, x: Signal) -> Signal:
    """Statistics per channel."""
    value = net.op(
        "InstanceNormalization", x.value, net.const(net.vector(x.slots, 1.0)), net.const(net.vector(x.slots))
    )
    return Signal(value, x.slots, x.space)


def affine(net: Net, x: Signal) -> Signal:
    """Per-channel constants, one of them expanded or tiled from a single number per channel."""
    scale = net.const(net.vector(x.slots, 1.0).reshape(-1, 1, 1))
    value = net.op("Mul", x.value, scale)
    shift = net.const(net.vector(x.slots).reshape(1, -1, 1, 1))
    if net.flip():
        shift = net.op("Expand", shift, net.ints(1, 1, *x.space))
    elif net.flip():
        shift = net.op("Tile", shift, net.ints(1, 1, *x.space))
    return Signal(net.op("Add", value, shift), x.slots, x.space)


def tiled(net: Net, x: Signal) -> Signal:
    """Tile along channels: every copy is a Unit of its own kind."""
    y = act(net, conv(net, x, net.width(4)))
    copies = net.width(2, copies=True)
    value = net.op("Tile", y.value, net.ints(1, 2, 1, 1))
    slots = tuple((copy[0], unit[0]) for copy in copies for unit in y.slots)
    return conv(net, Signal(value, slots, x.space), net.width(8), 1)


def quantised(net: Net, x: Signal) -> Signal:
    """QDQ: activations per tensor, weights per output channel."""
    if net.style.half or net.style.opset < 13:
        return plain_conv(net, x)
    step, zero = net.scalar(0.05), net.const(np.array(128, np.uint8))
    value = net.op("DequantizeLinear", net.op("QuantizeLinear", x.value, step, zero), step, zero)
    out = net.width(8)
    dead = net.dead(out)
    whole = net.numbers.integers(-90, 90, (8, x.width, 3, 3))
    whole[:, net.dead(x.slots, readers=True)] = 0
    w = np.where(dead[:, None, None, None], 0, whole).astype(np.int8)
    scale = np.where(dead, 1e-9, net.numbers.uniform(0.002, 0.006, 8)).astype(np.float32)
    weight = net.op(
        "DequantizeLinear",
        net.const(w, "q_w"),
        net.const(scale, "q_s"),
        net.const(np.zeros(8, np.int8)),
        axis=0,
    )
    return act(net, Signal(net.op("Conv", value, weight, pads=[1] * 4), out, x.space))


def shared(net: Net, x: Signal) -> Signal:
    """One weight at two places, once through an Identity; both lose the same slots."""
    width = net.width(8)
    w = net.const(net.weight((8, x.width, 3, 3), {0: width}, {1: x.slots}, 9 * x.width), "shared_w")
    again = net.op("Identity", w) if net.flip() else w
    a = act(net, Signal(net.op("Conv", x.value, w, pads=[1] * 4), width, x.space))
    b = act(net, Signal(net.op("Conv", x.value, again, pads=[1] * 4), width, x.space))
    out = net.width(4)
    one, two = conv(net, a, out, 1), conv(net, b, out, 1)
    return Signal(net.op("Add", one.value, two.value), out, x.space)


def padded(net: Net, x: Signal) -> Signal:
    """Zeros around the pixels."""
    pads = net.ints(0, 0, 1, 0, 0, 0, 0, 1)
    return Signal(net.op("Pad", x.value, pads), x.slots, (x.space[0] + 1, x.space[1] + 1))


BLOCKS = (
    plain_conv,
    residual,
    bottleneck,
    padded_shortcut,
    depthwise,
    grouped,
    inception,
    dense,
    doubled,
    gate,
    parted,
    excite,
    spatial_gate,
    pool,
    transposed,
    shuffle,
    pixels,
    group_norm,
    instance_norm,
    affine,
    tiled,
    quantised,
    shared,
    padded,
)
