"""Blocks of sequence models. Each takes and returns a Signal of shape [N, S, C]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tools.fuzz.image import act
from tools.fuzz.net import Array, Net, Signal, Slots, product, top


def linear(net: Net, x: Signal, out: Slots, bias: bool | None = None) -> Signal:
    """x.W + b, as MatMul, Einsum, Gemm over flattened tokens, or a 1x1 convolution."""
    form = net.pick(0, 0, 0, 1, 2, 3)
    b = net.vector(out)
    biased = net.flip() if bias is None else bias
    w = net.weight((x.width, len(out)), {1: out}, {0: x.slots}, x.width)
    if form == 2:
        value = _gemm(net, x, w, b if biased else None)
    elif form == 3:
        kernel = net.const(np.ascontiguousarray(w.T)[:, :, None], "conv1d_w")
        value = net.transpose(net.op("Conv", net.transpose(x.value, 0, 2, 1), kernel), 0, 2, 1)
    elif form == 1 and net.style.opset >= 12:
        value = net.op("Einsum", x.value, net.const(w), equation="nsd,de->nse")
    else:
        value = net.op("MatMul", x.value, net.const(w, "mm_w"))
    if biased and form != 2:
        value = net.op("Add", value, net.const(b, "mm_b"))
    return Signal(value, out, x.space)


def _gemm(net: Net, x: Signal, w: Array, b: Array | None) -> ir.Value:
    flat = net.reshape(x.value, -1, x.width)
    inputs = [flat, net.const(np.ascontiguousarray(w.T), "gemm_w")] + (
        [net.const(b, "gemm_b")] if b is not None else []
    )
    return net.reshape(net.op("Gemm", *inputs, transB=1), -1, *x.space, w.shape[1])


def add(net: Net, x: Signal, y: Signal) -> Signal:
    return Signal(net.op("Add", x.value, y.value), x.slots, x.space)


def mlp(net: Net, x: Signal) -> Signal:
    """A hidden layer in the residual stream."""
    hidden = act(net, linear(net, x, net.width(net.pick(8, 12))))
    return add(net, x, linear(net, hidden, x.slots))


def widen(net: Net, x: Signal) -> Signal:
    """A new stream."""
    return act(net, linear(net, x, net.width(8)))


def glu(net: Net, x: Signal) -> Signal:
    """Gated unit, its two projections separate or in one matrix."""
    half = net.width(8)
    if net.flip():
        gate, up = linear(net, x, half).value, linear(net, x, half).value
    else:
        both = linear(net, x, (*half, *half))
        gate, up = net.split(both.value, 2, 8, 8)
    gated = net.op("Mul", net.op("Mul", gate, net.op("Sigmoid", gate)), up)
    return add(net, x, linear(net, Signal(gated, half, x.space), x.slots))


def layer_norm(net: Net, x: Signal) -> Signal:
    """LayerNormalization, fused or in primitive operators; what no kernel fuses is cut exactly."""
    gamma, beta = net.const(net.vector(x.slots, 1.0), "gamma"), net.const(net.vector(x.slots), "beta")
    if net.style.opset >= 17 and net.flip():
        _refused(net, x)
        value = net.op("LayerNormalization", x.value, gamma, beta, axis=-1, epsilon=0.01)
        return Signal(value, x.slots, x.space)
    centred = net.op("Sub", x.value, net.reduce("ReduceMean", x.value, -1))
    if net.flip():
        square = net.op("Mul", centred, centred)  # ONNX Runtime fuses the power alone
    else:
        _refused(net, x)
        square = net.op("Pow", centred, net.scalar(2.0))
    spread = net.op("Sqrt", net.op("Add", net.reduce("ReduceMean", square, -1), net.scalar(0.01)))
    value = net.op("Mul", net.op("Div", centred, spread), gamma)
    return Signal(net.op("Add", value, beta), x.slots, x.space)


def _refused(net: Net, x: Signal) -> None:
    if net.style.layernorm == "refuse":
        net.pin(x.slots)


def rms_norm(net: Net, x: Signal) -> Signal:
    """RMSNormalization, fused or in primitive operators."""
    gamma = net.const(net.vector(x.slots, 1.0), "gamma")
    if net.style.opset >= 23 and not net.style.half and net.flip():
        return Signal(net.op("RMSNormalization", x.value, gamma, axis=-1, epsilon=0.01), x.slots, x.space)
    square = net.op("Mul", x.value, x.value) if net.flip() else net.op("Pow", x.value, net.scalar(2.0))
    spread = net.op("Sqrt", net.op("Add", net.reduce("ReduceMean", square, -1), net.scalar(0.01)))
    normal = (
        net.op("Div", x.value, spread) if net.flip() else net.op("Mul", x.value, net.op("Reciprocal", spread))
    )
    net.exact = False  # a second reduction behind a mean is pinned on purpose
    return Signal(net.op("Mul", normal, gamma), x.slots, x.space)


def unit_norm(net: Net, x: Signal) -> Signal:
    """Division by the L2 norm over channels."""
    if net.flip():
        return Signal(net.op("LpNormalization", x.value, axis=-1, p=2), x.slots, x.space)
    size = net.op("Add", net.reduce("ReduceL2", x.value, -1), net.scalar(0.1))
    return Signal(net.op("Div", x.value, size), x.slots, x.space)


def attention(net: Net, x: Signal) -> Signal:
    """Multi-head attention in primitive operators, in the residual stream."""
    form = net.pick(0, 1, 2, 3, 4)
    heads = net.width(net.pick(2, 4))
    dims = net.width(net.pick(4, 6))
    values = dims if form == 2 else net.width(4)
    q_slots, v_slots = product(heads, dims), product(heads, values)
    shape = [(0, x.space[0], len(heads), len(d)) for d in (dims, dims, values)]
    if form == 0:
        q, k, v = (linear(net, x, s).value for s in (q_slots, q_slots, v_slots))
        q, k, v = (net.reshape(p, *s) for p, s in zip((q, k, v), shape, strict=True))
    elif form == 1:
        both = linear(net, x, (*q_slots, *q_slots, *v_slots))
        parts = list(net.split(both.value, 2, len(q_slots), len(q_slots), len(v_slots)))
        q, k, v = (net.reshape(p, *s) for p, s in zip(parts, shape, strict=True))
    elif form == 2:
        return _packed(net, x, heads, dims)
    elif form == 3:
        return _rotary(net, x, heads, values)
    else:
        return _grouped_query(net, x, heads, dims, values)
    return _attend(net, x, (q, k, v), v_slots, len(dims))


def _attend(net: Net, x: Signal, parts: tuple[ir.Value, ir.Value, ir.Value], out: Slots, size: int) -> Signal:
    """Softmax(q.k / sqrt(d)).v over [N, S, H, D] operands, and the projection back."""
    q, k, v = (
        net.transpose(parts[0], 0, 2, 1, 3),
        net.transpose(parts[1], 0, 2, 3, 1),
        net.transpose(parts[2], 0, 2, 1, 3),
    )
    return _weighted(net, x, q, k, v, out, size)


def _weighted(net: Net, x: Signal, q: ir.Value, k: ir.Value, v: ir.Value, out: Slots, size: int) -> Signal:
    scores = net.op("Mul", net.op("MatMul", q, k), net.scalar(size**-0.5))
    if net.flip():
        mask = np.triu(np.full((x.space[0], x.space[0]), -100.0), 1).astype(net.kind)
        scores = net.op("Add", scores, net.const(mask, "mask"))
    weighted = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    back = net.transpose(weighted, 0, 2, 1, 3)
    joined = net.reshape(back, 0, 0, len(out)) if net.flip() else net.reshape(back, -1, *x.space, len(out))
    return add(net, x, linear(net, Signal(joined, out, x.space), x.slots))


def _packed(net: Net, x: Signal, heads: Slots, dims: Slots) -> Signal:
    """One projection, taken apart by a Reshape to [N, S, 3, H, D] and three Gathers."""
    slots = product(heads, dims)
    both = linear(net, x, (*slots, *slots, *slots))
    five = net.reshape(both.value, 0, x.space[0], 3, len(heads), len(dims))
    five = net.transpose(five, 2, 0, 3, 1, 4)
    q, k, v = (net.op("Gather", five, net.const(np.array(i, np.int64)), axis=0) for i in range(3))
    return _weighted(net, x, q, net.transpose(k, 0, 1, 3, 2), v, slots, len(dims))


def _rotary(net: Net, x: Signal, heads: Slots, values: Slots) -> Signal:
    """Rotary positions in the half layout: dims j and j + D/2 go together."""
    half = net.width(net.pick(2, 4))
    dims, length = (*half, *half), x.space[0]
    angles = np.outer(np.arange(length), 10.0 ** -np.arange(len(half)))
    tables = [np.tile(f(angles), 2).astype(net.kind) for f in (np.cos, np.sin)]
    cos, sin = (net.const(table, "rope") for table in tables)
    slots = product(heads, dims)
    turned = []
    for _ in range(2):
        part = net.reshape(linear(net, x, slots).value, 0, length, len(heads), len(dims))
        part = net.transpose(part, 0, 2, 1, 3)
        first, second = net.slice(part, 3, 0, len(half)), net.slice(part, 3, len(half), 1 << 40)
        swapped = net.op("Concat", net.op("Neg", second), first, axis=-1)
        turned.append(net.op("Add", net.op("Mul", part, cos), net.op("Mul", swapped, sin)))
    out = product(heads, values)
    v = net.reshape(linear(net, x, out).value, 0, length, len(heads), len(values))
    v = net.transpose(v, 0, 2, 1, 3)
    return _weighted(net, x, turned[0], net.transpose(turned[1], 0, 1, 3, 2), v, out, len(dims))


def _grouped_query(net: Net, x: Signal, heads: Slots, dims: Slots, values: Slots) -> Signal:
    """Every key head serves two query heads."""
    length, repeats = x.space[0], net.width(2, copies=True)
    queries = product(heads, repeats, dims)
    out = product(heads, repeats, values)
    count = len(heads) * 2
    q = net.transpose(net.reshape(linear(net, x, queries).value, 0, length, count, len(dims)), 0, 2, 1, 3)
    keys = []
    for part in (dims, values):
        one = net.reshape(linear(net, x, product(heads, part)).value, 0, length, len(heads), len(part))
        five = net.squeeze("Unsqueeze", net.transpose(one, 0, 2, 1, 3), 2)
        five = net.op("Expand", five, net.ints(1, 1, 2, 1, 1))
        keys.append(net.reshape(five, 0, count, length, len(part)))
    return _weighted(net, x, q, net.transpose(keys[0], 0, 1, 3, 2), keys[1], out, len(dims))


def fused_attention(net: Net, x: Signal) -> Signal:
    """One attention operator: com.microsoft MultiHeadAttention, or Attention of opset 23."""
    if net.style.half:
        return attention(net, x)
    heads, dims, values = net.width(net.pick(2, 4)), net.width(4), net.width(4)
    q, k = (linear(net, x, product(heads, dims)).value for _ in range(2))
    out = product(heads, values)
    v = linear(net, x, out).value
    if net.style.opset >= 23 and net.flip(0.7):
        value = net.op("Attention", q, k, v, q_num_heads=len(heads), kv_num_heads=len(heads))
    else:
        value = net.op("com.microsoft:MultiHeadAttention", q, k, v, num_heads=len(heads))
    return add(net, x, linear(net, Signal(value, out, x.space), x.slots))


def recurrent(net: Net, x: Signal) -> Signal:
    """LSTM or GRU, one direction or both."""
    hidden, gates = net.width(8), net.pick(3, 4)
    both = net.flip()
    count = 2 if both else 1
    rows: Slots = tuple(slot for _ in range(gates) for slot in hidden)
    w = np.stack([net.weight((gates * 8, x.width), {0: rows}, {1: x.slots}, x.width) for _ in range(count)])
    r = np.stack([net.weight((gates * 8, 8), {0: rows}, {}, 8) for _ in range(count)])
    b = np.stack([net.vector((*rows, *rows)) for _ in range(count)])
    weights = [net.const(a, "rnn") for a in (w, r, b)]
    attributes: dict[str, object] = {"hidden_size": 8, "direction": "bidirectional" if both else "forward"}
    if gates == 3:
        attributes["linear_before_reset"] = net.pick(0, 1)
    y = net.op("LSTM" if gates == 4 else "GRU", net.transpose(x.value, 1, 0, 2), *weights, **attributes)
    if both:
        value = net.reshape(net.transpose(y, 2, 0, 1, 3), 0, x.space[0], 16)
        return Signal(value, (*hidden, *hidden), x.space)
    return Signal(net.transpose(net.squeeze("Squeeze", y, 1), 1, 0, 2), hidden, x.space)


def branches(net: Net, x: Signal) -> Signal:
    """If: what the branches return stays, what they compute inside does not."""
    if not any(value.name == "flag" for value in net.inputs):
        flag = ir.Value(name="flag", shape=ir.Shape([]), type=ir.TensorType(ir.DataType.BOOL))
        net.inputs.append(flag)
        net.feeds["flag"] = np.array(net.flip())
    flag = next(value for value in net.inputs if value.name == "flag")
    out = top(8)
    bodies = {}
    for name in ("then_branch", "else_branch"):
        outer, net.nodes = net.nodes, []
        hidden = net.width(4)
        value = net.op(
            "MatMul", x.value, net.const(net.weight((x.width, 4), {1: hidden}, {0: x.slots}, x.width))
        )
        value = net.op("MatMul", net.op("Relu", value), net.const(net.weight((4, 8), {}, {0: hidden}, 4)))
        value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(net.kind)))
        bodies[name] = ir.Graph(
            [], [value], nodes=net.nodes, name=net.name(name), opset_imports={"": net.style.opset}
        )
        net.nodes = outer
    return Signal(net.op("If", flag, **bodies), out, x.space)


def token_shift(net: Net, x: Signal) -> Signal:
    """Pad and Slice along the sequence, then a channel slice with a stride."""
    padded = net.op("Pad", x.value, net.ints(0, 1, 0, 0, 0, 0))
    shifted = net.slice(padded, 1, 0, x.space[0])
    return Signal(net.op("Add", x.value, shifted), x.slots, x.space)


def strided(net: Net, x: Signal) -> Signal:
    """Every second channel has another reader."""
    even, odd = net.width(4), net.width(4)
    slots = tuple(slot for pair in zip(even, odd, strict=True) for slot in pair)
    y = act(net, linear(net, x, slots))
    parts = [Signal(net.slice(y.value, 2, start, 8, 2), s, x.space) for start, s in ((0, even), (1, odd))]
    out = net.width(8)
    return add(net, linear(net, parts[0], out), linear(net, parts[1], out))


BLOCKS = (
    mlp,
    widen,
    glu,
    layer_norm,
    rms_norm,
    unit_norm,
    attention,
    attention,
    fused_attention,
    recurrent,
    branches,
    token_shift,
    strided,
)
