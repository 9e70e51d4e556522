"""Multiply-adds of one node at concrete sizes: a counter per operator that contracts.

Counted are products with weights and activations, as the operator's definition computes them: a causal mask
earns no credit, with a cache the keys are past + current, a mixture counts the experts that a token takes.
Bias, activation and interpolation are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import onnx_ir as ir

from graphprune.ir.shapes import Sizes

Dims = tuple[int, ...]


class Place(NamedTuple):
    """Slots start to stop of an axis of a node's input or output; `inner`: of heads x dims, the dims."""

    side: str
    position: int
    axis: int
    start: int = 0
    stop: int | None = None
    inner: bool = False


@dataclass(frozen=True)
class Term:
    """A count of multiply-adds that is proportional to the kept share of each of these places."""

    macs: int
    places: tuple[Place, ...]


class UnknownSizeError(Exception):
    """A size that the count needs is not known."""


class At:
    """A node at concrete sizes.

    Args:
        node: the node.
        sizes: of the whole model, inferred from concrete input shapes.
    """

    def __init__(self, node: ir.Node, sizes: Sizes) -> None:
        self.node = node
        self._shapes = sizes.shapes

    def dims(self, side: str, position: int) -> Dims:
        """Sizes of an input ("in") or output ("out").

        Raises:
            UnknownSizeError: it is missing, or one of its sizes is not known or depends on data.
        """
        values = self.node.inputs if side == "in" else self.node.outputs
        value = values[position] if position < len(values) else None
        shape = None if value is None else self._shapes.get(value)
        if shape is None or any(a != b or a < 0 for a, b in shape):
            raise UnknownSizeError
        return tuple(size for size, _ in shape)

    def input(self, position: int) -> Dims:
        """Sizes of an input."""
        return self.dims("in", position)

    def output(self, position: int = 0) -> Dims:
        """Sizes of an output."""
        return self.dims("out", position)

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def number(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return self.node.attributes[name].as_int() if name in self.node.attributes else default

    def numbers(self, name: str) -> Sequence[int]:
        """A list of integers, empty where it is not given."""
        return self.node.attributes[name].as_ints() if name in self.node.attributes else ()

    def text(self, name: str, default: str = "") -> str:
        """A text attribute."""
        return self.node.attributes[name].as_string() if name in self.node.attributes else default


Counter = Callable[[At], list[Term]]


def _in(position: int, axis: int, start: int = 0, stop: int | None = None) -> Place:
    return Place("in", position, axis, start, stop)


def _out(axis: int) -> Place:
    return Place("out", 0, axis)


# -- convolutions


def conv(weight: int = 1, channel: int = 1) -> Counter:
    """Every element of the output takes a window of the input channels of its group."""

    def count(at: At) -> list[Term]:
        last = at.text("layout") == "NHWC" or at.number("channels_last") == 1
        out = at.output()
        axis = len(out) - 1 if last or channel < 0 else channel
        return [Term(prod(out) * prod(at.input(weight)[1:]), (_out(axis), _in(weight, 1)))]

    return count


def conv_transpose(at: At) -> list[Term]:
    """Every element of the input is spread over a window of the output channels of its group."""
    return [Term(prod(at.input(0)) * prod(at.input(1)[1:]), (_in(0, 1), _in(1, 1)))]


def causal_conv(at: At) -> list[Term]:
    """Depthwise: a window in time per element."""
    return [Term(prod(at.output()) * at.input(1)[-1], (_out(1),))]


# -- products


def matmul(a: int = 0, b: int = 1) -> Counter:
    """[.., M, K] by [.., K, N]; transA of the fused forms swaps the last two axes of A."""

    def count(at: At) -> list[Term]:
        left, out = at.input(a), at.output()
        inner = len(left) - (2 if at.number("transA") and len(left) > 1 else 1)
        places = (*(_out(axis) for axis in range(len(out))), _in(a, inner))
        return [Term(prod(out) * left[inner], places)]

    return count


def gemm(a: int = 0) -> Counter:
    """A' [M, K] by B' [K, N]."""

    def count(at: At) -> list[Term]:
        inner = 0 if at.number("transA") else 1
        return [Term(prod(at.output()) * at.input(a)[inner], (_out(0), _out(1), _in(a, inner)))]

    return count


def einsum(at: At) -> list[Term]:
    """Operands are contracted from left to right, as ONNX Runtime does; a letter goes once none needs it."""
    left, arrow, right = at.text("equation").replace(" ", "").partition("->")
    shapes = [at.input(position) for position in range(len(at.node.inputs))]
    terms = [_letters(term, len(shape)) for term, shape in zip(left.split(","), shapes, strict=True)]
    letters = [letter for term in terms for letter in term]
    kept = [letter for letter in letters if letter.isdigit()]  # of ellipses, which always stay
    wanted = {*kept, *(right if arrow else _once(letters))}
    sizes: dict[str, int] = {}
    places: dict[str, Place] = {}
    for position, term in enumerate(terms):
        for axis, letter in enumerate(term):
            if shapes[position][axis] > sizes.get(letter, -1):
                sizes[letter], places[letter] = shapes[position][axis], _in(position, axis)
    found, held = [], set(terms[0])
    for position, term in enumerate(terms[1:], 1):
        joint = sorted(held | set(term))
        found.append(Term(prod(sizes[x] for x in joint), tuple(places[x] for x in joint)))
        held = set(joint) & wanted.union(*terms[position + 1 :])
    return found


def _letters(term: str, rank: int) -> list[str]:
    """Letters of an operand, an ellipsis as digits that count from the right."""
    if "..." not in term:
        return list(term)
    head, _, tail = term.partition("...")
    return [*head, *(str(axis) for axis in range(rank - len(head) - len(tail), 0, -1)), *tail]


def _once(letters: Sequence[str]) -> list[str]:
    """What an equation without an arrow keeps: letters that come once."""
    return [letter for letter in letters if letters.count(letter) == 1]


# -- recurrent


def recurrent(at: At) -> list[Term]:
    """At every step, W on the input and R on the hidden state: [directions, gates x hidden, ..]."""
    steps = prod(at.input(0)[:2])
    return [
        Term(steps * prod(at.input(1)), (_in(0, 2), _in(2, 2))),
        Term(steps * prod(at.input(2)), (_in(2, 2), _in(2, 2))),
    ]


def dynamic_lstm(at: At) -> list[Term]:
    """As LSTM with W and R transposed: [directions, input, 4 x hidden]; the hidden width is fixed."""
    steps = prod(at.input(0)[:2])
    return [
        Term(steps * prod(at.input(1)), (_in(0, 2),)),
        Term(steps * prod(at.input(2)), ()),
    ]


# -- attention


def _scores(queries: int, keys: int, qk: tuple[int, Place | None], v: tuple[int, Place | None]) -> list[Term]:
    """Q K' and P V, for all batches, heads and head dims together in the two widths."""
    return [Term(queries * keys * width, () if place is None else (place,)) for width, place in (qk, v)]


def attention(at: At) -> list[Term]:
    """Attention of ai.onnx: [B, S, H x D] or [B, H, S, D]; a past of [B, H, P, D] comes before the keys."""
    query, out = at.input(0), at.output()
    keys = at.input(1)[-2] + (at.input(4)[-2] if at.has(4) else 0)
    axes = (-1,) if len(query) == 3 else (1, 3)
    last = len(query) - 1
    places = [tuple(_wrapped(side, axis, last) for axis in axes) for side in ("in", "out")]
    return [Term(prod(query) * keys, places[0]), Term(prod(out) * keys, places[1])]


def _wrapped(side: str, axis: int, last: int) -> Place:
    return Place(side, 0, last if axis < 0 else axis)


def packed_attention(past: int) -> Counter:
    """Attention of com.microsoft: x W with W = [Wq Wk Wv], then scores over all heads."""

    def count(at: At) -> list[Term]:
        (batch, queries, _), (inner, width) = at.input(0), at.input(1)
        sizes = at.numbers("qkv_hidden_sizes") or (width // 3,) * 3
        keys = queries + (at.input(past)[3] if at.has(past) else 0)
        first, last = _in(1, 1, 0, sizes[0]), _out(2)
        return [
            Term(batch * queries * inner * width, (_in(0, 2), _in(1, 1))),
            Term(batch * queries * keys * sizes[0], (first,)),
            Term(batch * queries * keys * sizes[2], (last,)),
        ]

    return count


def multi_head_attention(at: At) -> list[Term]:
    """Q, K and V apart or packed ([B, S, H, 3, D], [B, T, H, 2, D]); K also as [B, H, T, D]."""
    query = at.input(0)
    batch, queries = query[:2]
    packed = len(query) == 5
    width = query[2] * query[4] if packed else query[2]
    heads: tuple[Place, ...] = (_in(0, 2), _in(0, 4)) if packed else (_in(0, 2),)
    keys = queries
    if not packed:
        key = at.input(1)
        keys = key[2] if len(key) == 4 else key[1]
    if at.has(6):
        keys += at.input(6)[2]
    pairs = batch * queries * keys
    return [Term(pairs * width, heads), Term(pairs * at.output()[2], (_out(2),))]


def group_query_attention(at: At) -> list[Term]:
    """Every query head meets the keys of its group, past ones included; one head dim for Q, K and V."""
    batch, queries, width = at.output()
    keys = (at.input(1)[1] if at.has(1) else queries) + (at.input(3)[2] if at.has(3) else 0)
    term = Term(batch * queries * keys * width, (_out(2),))
    return [term, term]


DELTA = ("delta", "gated_delta")


def linear_attention(at: At) -> list[Term]:
    """A token writes k v' into the state of every key head, and every query head reads it by q."""
    (batch, tokens, _), keys, values = at.input(0), at.input(1)[2], at.input(2)[2]
    heads, groups = at.number("q_num_heads", 1), at.number("kv_num_heads", 1)
    state = batch * tokens * (keys // groups) * (values // groups)
    writes = 2 if at.text("update_rule", "gated_delta") in DELTA else 1  # delta rules read by k as well
    values_in = Place("in", 2, 2, inner=True)
    return [
        Term(state * groups * writes, (_in(1, 2), values_in)),
        Term(state * max(heads, groups), (_in(0 if heads >= groups else 1, 2), values_in)),
    ]


# -- mixtures of experts


def mixture(fc1: int, fc2: int, fc3: int, bits: str = "") -> Counter:
    """Every token goes through k experts: fc1 and fc3 from the stream, fc2 back to it."""

    def count(at: At) -> list[Term]:
        stream = at.input(0)
        width = stream[-1]
        chosen = prod(stream[:-1]) * at.number("k", 1)
        packing = 8 // at.number(bits, 4) if bits else 1
        back = at.input(fc2)
        terms = [
            Term(chosen * at.input(position)[1] * width, (_in(0, len(stream) - 1), _in(position, 1)))
            for position in (fc1, fc3)
            if at.has(position)
        ]
        return [*terms, Term(chosen * back[1] * back[2] * packing, (_in(fc2, 1), _in(fc2, 2)))]

    return count


def unknown(at: At) -> list[Term]:
    """An operator that multiplies, of which nobody counted how much."""
    raise UnknownSizeError


def terms(counter: Counter | None, node: ir.Node, sizes: Sizes) -> list[Term] | None:
    """The multiply-adds of a node; None where they are not known."""
    if counter is None:
        return []
    try:
        return counter(At(node, sizes))
    except (UnknownSizeError, IndexError, ValueError, ZeroDivisionError):
        return None
