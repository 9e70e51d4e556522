"""Blocks in which widths meet in unusual ways: only soundness is asked, not how fine the Units are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tools.fuzz.image import act, conv
from tools.fuzz.net import Net, Signal, Slots, top
from tools.fuzz.tokens import add, linear


def loose(net: Net) -> None:
    """What is pinned, and whether dead Units can go, is not predicted from here on."""
    net.exact = net.plantable = False


def live_shape(net: Net, x: Signal) -> Signal:
    """Heads split and joined with a target computed from Shape, as torch exporters write it."""
    loose(net)
    y = linear(net, x, net.width(12))
    shape = net.op("Shape", y.value)
    dims = [net.op("Gather", shape, net.const(np.array([i], np.int64)), axis=0) for i in range(3)]
    heads = net.pick(2, 3, 4)
    last = net.op("Div", dims[2], net.ints(heads)) if net.flip() else net.ints(12 // heads)
    split = net.op("Concat", dims[0], dims[1], net.ints(heads), last, axis=0)
    value = net.transpose(net.op("Reshape", y.value, split), 0, 2, 1, 3)
    value = net.transpose(net.op("Tanh", value), 0, 2, 1, 3)
    joined = net.op("Concat", dims[0], dims[1], dims[2] if net.flip() else net.ints(12), axis=0)
    return add(net, x, linear(net, Signal(net.op("Reshape", value, joined), y.slots, x.space), x.slots))


def class_token(net: Net, x: Signal) -> Signal:
    """A token in front, repeated to the batch by Expand or ConstantOfShape arithmetic."""
    loose(net)
    token = net.const(net.weight((1, 1, x.width), {2: x.slots}, {}, 4), "token")
    batch = net.op("Gather", net.op("Shape", x.value), net.ints(0), axis=0)
    value = net.op(
        "Expand", token, net.op("Concat", batch, net.ints(1), net.ints(x.width if net.flip() else 1), axis=0)
    )
    joined = net.op("Concat", value, x.value, axis=1)
    if net.flip():
        return Signal(joined, x.slots, (x.space[0] + 1,))
    return Signal(net.slice(joined, 1, 1, 1 << 40), x.slots, x.space)


def mixer(net: Net, x: Signal) -> Signal:
    """A hidden layer along the tokens: the width lies on the sequence axis."""
    loose(net)
    hidden, length = net.width(6), x.space[0]
    flipped = net.transpose(x.value, 0, 2, 1)
    up = net.const(net.weight((length, 6), {1: hidden}, {}, length))
    down = net.const(net.weight((6, length), {}, {0: hidden}, 6))
    value = net.op("MatMul", net.op("Tanh", net.op("MatMul", flipped, up)), down)
    return add(net, x, Signal(net.transpose(value, 0, 2, 1), x.slots, x.space))


def left_weight(net: Net, x: Signal) -> Signal:
    """W.x with the constant on the left."""
    loose(net)
    out = net.width(8)
    w = net.const(net.weight((8, x.width), {0: out}, {1: x.slots}, x.width))
    return Signal(net.transpose(net.op("MatMul", w, net.transpose(x.value, 0, 2, 1)), 0, 2, 1), out, x.space)


def router(net: Net, x: Signal) -> Signal:
    """Positions on a width: ArgMax or TopK, read by OneHot, Gather or as numbers."""
    loose(net)
    scores = linear(net, x, net.width(6), bias=False)
    if net.flip():
        index = net.op("ArgMax", scores.value, axis=-1, keepdims=0)
    else:
        net.op("TopK", scores.value, net.ints(2), axis=-1, outputs=2)
        index = net.op("Gather", net.last[1], net.const(np.array(0, np.int64)), axis=2)
    form = net.pick(0, 1, 2)
    table = net.const(net.weight((6, x.width), {1: x.slots}, {}, 1), "experts")
    if form == 0:
        return add(net, x, Signal(net.op("Gather", table, index), x.slots, x.space))
    if form == 1:
        hot = net.op(
            "OneHot", index, net.const(np.array(6, np.int64)), net.const(np.array([0, 1], net.kind)), axis=-1
        )
        return add(net, x, Signal(net.op("MatMul", hot, table), x.slots, x.space))
    number = net.op("Cast", index, to=int(ir.DataType.from_numpy(np.dtype(net.kind))))
    return add(net, x, Signal(net.squeeze("Unsqueeze", number, 2), top(1), x.space))


def einsum_heads(net: Net, x: Signal) -> Signal:
    """Attention written with Einsum over [N, S, H, D]."""
    loose(net)
    if net.style.opset < 12:
        return x
    parts = [net.reshape(linear(net, x, net.width(8)).value, 0, x.space[0], 2, 4) for _ in range(3)]
    scores = net.op("Einsum", parts[0], parts[1], equation="bqhd,bkhd->bhqk")
    weighted = net.op("Einsum", net.op("Softmax", scores, axis=-1), parts[2], equation="bhqk,bkhd->bqhd")
    back = net.reshape(weighted, 0, x.space[0], 8)
    return add(net, x, linear(net, Signal(back, top(8), x.space), x.slots))


def along(net: Net, x: Signal) -> Signal:
    """An operator that reads the channel axis as a whole."""
    loose(net)
    kind = net.pick(0, 1, 2, 3, 4)
    if kind == 0:
        return Signal(net.op("Softmax", x.value, axis=-1), x.slots, x.space)
    if kind == 1 and not (net.style.half and net.style.opset < 14):  # no half precision before
        return Signal(net.op("CumSum", x.value, net.const(np.array(-1, np.int64))), x.slots, x.space)
    if kind == 2:
        value = net.op("Mul", x.value, net.reduce("ReduceMax", x.value, -1))
        return Signal(net.op("Add", value, net.reduce("ReduceMin", x.value, -1)), x.slots, x.space)
    if kind == 3:
        return Signal(net.op("Sub", x.value, net.reduce("ReduceMean", x.value, -1)), x.slots, x.space)
    return Signal(net.op("Add", x.value, net.reduce("ReduceLogSumExp", x.value, -1)), x.slots, x.space)


def picked(net: Net, x: Signal) -> Signal:
    """Channels taken in another order, some twice, some not at all."""
    loose(net)
    form = net.pick(0, 1, 2, 3)
    y = linear(net, x, net.width(8))
    if form == 0:
        index = net.choice.integers(0, 8, 10)
        value = net.op("Gather", y.value, net.const(index.astype(np.int64)), axis=-1)
    elif form == 1:
        value = net.slice(y.value, 2, -1, -9, -1)
    elif form == 2:
        a, b, c = net.split(y.value, 2, 3, 1, 4)
        value = net.op("Concat", c, a, b, a, axis=2)
    else:
        value = net.op("Concat", y.value, net.slice(y.value, 2, 1, 7, 2), axis=2)
    out = net.width(8)
    width = {0: 10, 1: 8, 2: 11, 3: 11}[form]
    return linear(net, act(net, Signal(value, top(width), x.space)), out)


def nested(net: Net, x: Signal) -> Signal:
    """One width cut in two ways, which nest or do not."""
    loose(net)
    y = linear(net, x, net.width(12))
    cuts = ((2, 6), (6, 2), (3, 4), (4, 3), (12, 1))
    total: ir.Value | None = None
    for _ in range(2):
        outer, inner = cuts[net.choice.integers(len(cuts))]
        value = net.reshape(y.value, 0, x.space[0], outer, inner)
        value = net.reduce(
            ("ReduceSum", "ReduceMax", "ReduceMean")[net.pick(0, 1, 2)], value, net.pick(2, 3), keepdims=1
        )
        value = net.op("Mul", net.reshape(y.value, 0, x.space[0], outer, inner), net.op("Tanh", value))
        value = net.reshape(value, 0, x.space[0], 12)
        total = value if total is None else net.op("Add", total, value)
    assert total is not None
    return linear(net, Signal(total, y.slots, x.space), x.slots)


def loop(net: Net, x: Signal) -> Signal:
    """A body that captures a width."""
    loose(net)
    y = linear(net, x, net.width(8))
    outer, net.nodes = net.nodes, []
    step, going = (
        ir.Value(name=net.name(n), shape=ir.Shape([]), type=ir.TensorType(t)) for n, t in BODY_INPUTS
    )
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(net.kind)))
    state = ir.Value(name=net.name("state"), type=kind)
    still = net.op("Identity", going)
    value = net.op("Add", net.op("Tanh", state), y.value)
    still.type, value.type = ir.TensorType(ir.DataType.BOOL), kind
    imports = {"": net.style.opset}
    body = ir.Graph(
        [step, going, state], [still, value], nodes=net.nodes, name=net.name("body"), opset_imports=imports
    )
    net.nodes = outer
    count = net.const(np.array(2, np.int64))
    return Signal(net.op("Loop", count, None, y.value, body=body), y.slots, x.space)


BODY_INPUTS = (("step", ir.DataType.INT64), ("going", ir.DataType.BOOL))


def masked(net: Net, x: Signal) -> Signal:
    """Where with a constant choice per channel, and comparisons."""
    loose(net)
    choice = net.const(net.choice.random(x.width) < 0.5, "choice")
    value = net.op("Where", choice, x.value, net.op("Neg", x.value))
    positive = net.op("Greater", x.value, net.scalar(0.0))
    return Signal(net.op("Where", positive, value, net.scalar(0.1)), x.slots, x.space)


def one_head(net: Net, x: Signal) -> Signal:
    """Axes of size 1 that appear and go, some by a Squeeze without axes."""
    loose(net)
    y = linear(net, x, net.width(8))
    value = net.transpose(net.reshape(y.value, 0, x.space[0], 1, 8), 0, 2, 1, 3)
    value = net.op("Tanh", value)
    back = net.op("Squeeze", value) if net.flip() else net.squeeze("Squeeze", value, 1)
    return linear(net, Signal(back, y.slots, x.space), x.slots)


def channels_last(net: Net, x: Signal) -> Signal:
    """A hidden layer between transpositions, as in ConvNeXt."""
    loose(net)
    value = net.transpose(x.value, 0, 2, 3, 1)
    hidden = net.width(8)
    up = net.const(net.weight((x.width, 8), {1: hidden}, {0: x.slots}, x.width))
    down = net.const(net.weight((8, x.width), {1: x.slots}, {0: hidden}, 8))
    value = net.op("MatMul", net.op("Tanh", net.op("MatMul", value, up)), down)
    return Signal(net.op("Add", x.value, net.transpose(value, 0, 3, 1, 2)), x.slots, x.space)


def turned(net: Net, x: Signal) -> Signal:
    """Channels become rows of pixels, and pixels channels."""
    loose(net)
    side = x.space[0]
    y = conv(net, x, net.width(side), 1)
    form = net.pick(0, 1, 2)
    if form == 0:
        value = net.transpose(y.value, 0, 2, 1, 3)
    elif form == 1:
        value = net.transpose(net.reshape(y.value, 0, side, x.space[0] * x.space[1]), 0, 2, 1)
        value = net.reshape(value, 0, side, side, x.space[1])
    else:
        value = net.transpose(y.value, 0, 3, 2, 1)
    space = {0: (side, x.space[1]), 1: (side, x.space[1]), 2: (x.space[0], side)}[form]
    return conv(net, act(net, Signal(value, top(side), space)), net.width(8), net.pick(1, 3))


def maxout(net: Net, x: Signal) -> Signal:
    """A reduction over one factor of the channels."""
    loose(net)
    y = conv(net, x, net.width(12))
    outer, inner = ((3, 4), (4, 3), (2, 6))[net.pick(0, 1, 2)]
    value = net.reshape(y.value, 0, outer, inner, *x.space)
    axis = net.pick(1, 2)
    kind = ("ReduceMax", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceProd")[net.pick(0, 1, 2, 3, 4)]
    value = net.reduce(kind, value, axis, keepdims=0)
    return conv(net, Signal(value, top(inner if axis == 1 else outer), x.space), net.width(8), 1)


def unbalanced(net: Net, x: Signal) -> Signal:
    """Grouped convolutions whose blocks do not fit the widths they read."""
    loose(net)
    sizes = ((3, 5), (4, 4), (2, 6))[net.pick(0, 1, 2)]
    parts = [conv(net, x, net.width(size), 1) for size in sizes]
    value = net.op("Concat", *[part.value for part in parts], axis=1)
    y = Signal(value, tuple(slot for part in parts for slot in part.slots), x.space)
    form = net.pick(0, 1, 2)
    if form == 1:
        order = net.choice.permutation(8).astype(np.int64)
        y = Signal(net.op("Gather", y.value, net.const(order), axis=1), top(8), x.space)
    elif form == 2:
        five = net.reshape(y.value, 0, 2, 4, *x.space)
        y = Signal(net.reshape(net.transpose(five, 0, 2, 1, 3, 4), 0, 8, *x.space), top(8), x.space)
    out: Slots = net.width(8)
    z = conv(net, y, out, 3, group=net.pick(2, 4))
    return conv(net, conv(net, act(net, z), net.width(16), 1, group=net.pick(1, 2, 4, 8)), net.width(8), 1)


def padded_channels(net: Net, x: Signal) -> Signal:
    """Channels that are padded with other numbers, cut, and padded by other modes along the pixels."""
    loose(net)
    value = net.op("Pad", x.value, net.ints(0, 2, 0, 0, 0, 1, 0, 0), net.scalar(0.7))
    if net.flip():
        value = net.op("Pad", value, net.ints(0, 0, 1, 1, 0, 0, 0, 0), mode="reflect")
        space = (x.space[0] + 1, x.space[1] + 1)
    else:
        space = x.space
    y = act(net, Signal(value, top(x.width + 3), space))
    if net.flip():
        y = Signal(net.slice(y.value, 1, 1, x.width + 2), top(x.width + 1), space)
    return conv(net, y, net.width(8))


TOKEN_BLOCKS = (
    live_shape, class_token, mixer, left_weight, router, einsum_heads, along, picked, nested, loop, masked,
    one_head,
)  # fmt: skip
IMAGE_BLOCKS = (channels_last, turned, maxout, unbalanced, padded_channels)
