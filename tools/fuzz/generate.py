"""The grammar: a seed gives a graph, its inputs, and what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tools.fuzz import image, tokens, wild
from tools.fuzz.net import Array, Net, Signal, Slots, Style, repeated, top

OPSETS = (11, 13, 17, 18, 21, 23)
Block = Callable[[Net, Signal], Signal]
IMAGE_BLOCKS: tuple[Block, ...] = (*image.BLOCKS, *wild.IMAGE_BLOCKS)
TOKEN_BLOCKS: tuple[Block, ...] = (*tokens.BLOCKS, *wild.TOKEN_BLOCKS)


@dataclass(frozen=True, eq=False)
class Graph:
    """A generated graph.

    Attributes:
        expected: sizes of the Groups that can be pruned, ascending; None where that is not known.
        plantable: whether half of every Group is dead, so that half can go without a change.
        trail: the blocks it is made of.
    """

    seed: int
    model: ir.Model
    feeds: dict[str, Array]
    style: Style
    expected: list[int] | None
    plantable: bool
    trail: tuple[str, ...]

    @property
    def label(self) -> str:
        """One line that says what it is."""
        half = " fp16" if self.style.half else ""
        return (
            f"seed {self.seed} opset {self.style.opset}{half} {self.style.layernorm}: {' '.join(self.trail)}"
        )


def generate(
    seed: int, planted: bool = False, blocks: Sequence[str] | None = None, style: Style | None = None
) -> Graph:
    """Builds the graph of a seed.

    Args:
        seed: decides structure and weights.
        planted: half of the Units of every width are dead for every input.
        blocks: names of the blocks to chain instead of drawing them.
        style: opset, element type and so on, instead of drawing them.
    """
    draw = np.random.default_rng([seed, 2])
    drawn = Style(
        opset=int(draw.choice(OPSETS)),
        half=bool(draw.random() < 0.08),
        dynamic=bool(draw.random() < 0.6),
        zero_preserving=planted or bool(draw.random() < 0.5),
        layernorm=("refuse", "expand")[int(draw.random() < 0.5)],
    )
    net = Net(seed, style or drawn, planted)
    chain = _chain(net, blocks)
    domain = "image" if chain[0] in IMAGE_BLOCKS else "tokens"
    x = STARTS[domain](net)
    for block in chain:
        if block in TOKEN_BLOCKS and len(x.space) == 2:
            x = _to_tokens(net, x)
        net.trail.append(block.__name__)
        x = block(net, x)
    _finish(net, x)
    return Graph(
        seed,
        net.model(),
        net.feeds,
        net.style,
        net.expected if net.exact else None,
        net.plantable,
        tuple(net.trail),
    )


def _chain(net: Net, names: Sequence[str] | None) -> list[Block]:
    known: dict[str, Block] = {block.__name__: block for block in (*IMAGE_BLOCKS, *TOKEN_BLOCKS)}
    if names is not None:
        return [known[name] for name in names]
    first, second = (IMAGE_BLOCKS, TOKEN_BLOCKS) if net.flip(0.5) else (image.BLOCKS, tokens.BLOCKS)
    some = [first[i] for i in net.choice.integers(0, len(first), net.pick(1, 2, 3, 4))]
    others = [second[i] for i in net.choice.integers(0, len(second), net.pick(1, 2, 3))]
    return [some, others, [*some, *others]][net.pick(0, 0, 1, 1, 2)]


def _image(net: Net) -> Signal:
    size = net.pick(5, 6, 8)
    x = Signal(net.input("x", (3, size, size)), top(3), (size, size))
    return image.act(net, image.conv(net, x, net.width(8)))


def _tokens(net: Net) -> Signal:
    length = net.pick(4, 6)
    out = net.width(net.pick(8, 12))
    if net.flip(0.4):
        ids = net.input("ids", (length,), high=11)
        table = net.const(net.weight((11, len(out)), {1: out}, {}, 1), "table")
        x = Signal(net.op("Gather", table, ids), out, (length,))
        place = net.const(net.weight((1, length, len(out)), {2: out}, {}, 4), "place")
        return Signal(net.op("Add", x.value, place), out, x.space)
    x = Signal(net.input("x", (length, 5)), top(5), (length,))
    return tokens.linear(net, x, out)


STARTS: dict[str, Callable[[Net], Signal]] = {"image": _image, "tokens": _tokens}


def _to_tokens(net: Net, x: Signal) -> Signal:
    pixels = x.space[0] * x.space[1]
    if pixels > 64:
        x = Signal(
            net.op("AveragePool", x.value, kernel_shape=[3, 3], strides=[3, 3]),
            x.slots,
            tuple((n - 3) // 3 + 1 for n in x.space),
        )
        pixels = x.space[0] * x.space[1]
    flat = (
        net.reshape(x.value, 0, x.width, pixels) if net.flip() else net.reshape(x.value, -1, x.width, pixels)
    )
    return Signal(net.transpose(flat, 0, 2, 1), x.slots, (pixels,))


def _finish(net: Net, x: Signal) -> None:
    """One or two heads, or the signal itself."""
    for _ in range(net.pick(1, 1, 2)):
        heads = IMAGE_HEADS if len(x.space) == 2 else TOKEN_HEADS
        y = heads[net.choice.integers(len(heads))](net, x)
        net.output(_classify(net, y))


def _classify(net: Net, x: Signal) -> ir.Value:
    """A last linear layer over [N, C]; a hidden one before it half of the time."""
    if net.flip(0.3):
        x = image.act(net, _matrix(net, x, net.width(8)))
    return _matrix(net, x, top(5)).value


def _matrix(net: Net, x: Signal, out: Slots) -> Signal:
    w = net.weight((x.width, len(out)), {1: out}, {0: x.slots}, x.width)
    if net.flip():
        bias = net.const(net.vector(out), "head_b")
        return Signal(net.op("Gemm", x.value, net.const(w.T.copy(), "head_w"), bias, transB=1), out, ())
    return Signal(net.op("MatMul", x.value, net.const(w, "head_w")), out, ())


def _pooled(net: Net, x: Signal) -> Signal:
    if net.flip():
        return Signal(net.op("Flatten", net.op("GlobalAveragePool", x.value)), x.slots, ())
    return Signal(net.reduce("ReduceMean", x.value, 2, 3, keepdims=0), x.slots, ())


def _flattened(net: Net, x: Signal) -> Signal:
    pixels = x.space[0] * x.space[1]
    slots = repeated(x.slots, pixels)
    if net.flip():
        return Signal(net.op("Flatten", x.value), slots, ())
    return Signal(
        net.reshape(x.value, -1, len(slots)) if net.flip() else net.reshape(x.value, 0, len(slots)), slots, ()
    )


def _flattened_last(net: Net, x: Signal) -> Signal:
    """Channels last before the Flatten: slots repeat with period C."""
    value = net.op("Flatten", net.transpose(x.value, 0, 2, 3, 1))
    return Signal(value, x.slots * (x.space[0] * x.space[1]), ())


def _token_mean(net: Net, x: Signal) -> Signal:
    return Signal(net.reduce("ReduceMean", x.value, 1, keepdims=0), x.slots, ())


def _token_max(net: Net, x: Signal) -> Signal:
    return Signal(net.reduce("ReduceMax", x.value, 1, keepdims=0), x.slots, ())


def _token_last(net: Net, x: Signal) -> Signal:
    return Signal(net.op("Gather", x.value, net.const(np.array(-1, np.int64)), axis=1), x.slots, ())


def _token_flat(net: Net, x: Signal) -> Signal:
    slots = x.slots * x.space[0]
    return Signal(net.reshape(x.value, -1, len(slots)), slots, ())


IMAGE_HEADS = (_pooled, _pooled, _flattened, _flattened_last)
TOKEN_HEADS = (_token_mean, _token_max, _token_last, _token_flat)
