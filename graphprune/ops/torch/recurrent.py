"""Recurrent nets, step by step; a plain LSTM or GRU by torch's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor

Squash = Callable[[Tensor], Tensor]
SQUASHES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "relu": lambda x, a, b: torch.relu(x),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: F.leaky_relu(x, a),
    "thresholdedrelu": lambda x, a, b: F.threshold(x, a, 0.0),
    "scaledtanh": lambda x, a, b: a * torch.tanh(b * x),
    "hardsigmoid": lambda x, a, b: F.hardtanh(a * x + b, 0.0, 1.0),
    "elu": lambda x, a, b: F.elu(x, a),
    "softsign": lambda x, a, b: F.softsign(x),
    "softplus": lambda x, a, b: F.softplus(x),
}
DEFAULTS = {"leakyrelu": (0.01, 0.0), "hardsigmoid": (0.2, 0.5), "elu": (1.0, 0.0)}
USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction of a recurrent node, its operands cut out."""

    w: Tensor
    r: Tensor
    b: Tensor
    p: Tensor | None
    squashes: Sequence[Squash]
    clip: float


def _squashes(call: Call, kind: str, at: int) -> list[Squash]:
    names = call.texts("activations") or list(USUAL[kind]) * 2
    count = len(USUAL[kind])
    alphas, betas = (call.attributes.get(f"activation_{each}") or () for each in ("alpha", "beta"))
    assert isinstance(alphas, tuple) and isinstance(betas, tuple)
    out: list[Squash] = []
    for position, name in enumerate(names):
        default = DEFAULTS.get(name.lower(), (1.0, 0.0))
        a = alphas[position] if position < len(alphas) else default[0]
        b = betas[position] if position < len(betas) else default[1]
        function = SQUASHES[name.lower()]
        out.append(lambda x, f=function, a=a, b=b: f(x, a, b))  # type: ignore[misc]
    return out[at * count : (at + 1) * count]


def recurrent(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """An LSTM, a GRU or a plain net, in one direction or both."""
    kind = next(each for each in GATES if call.op.endswith(each))
    directions, width = w.shape[0], r.shape[-1]
    batch_first = bool(call.integer("layout"))
    if batch_first:
        x = x.transpose(0, 1)
        h, c = (None if each is None else each.transpose(0, 1) for each in (h, c))
    state = x.new_zeros(directions, x.shape[1], width)
    h, c = state if h is None else h, state if c is None else c
    b = x.new_zeros(directions, 2 * GATES[kind] * width) if b is None else b
    found = []
    for at in range(directions):
        own = Direction(
            w[at], r[at], b[at], None if p is None else p[at], _squashes(call, kind, at), call.real("clip")
        )
        backward = at == 1 or call.text("direction") == "reverse"
        found.append(_one_way(call, kind, own, x, lengths, h[at], c[at], backward))
    y = torch.stack([each[0] for each in found], 1)
    last = torch.stack([each[1] for each in found])
    cell = torch.stack([each[2] for each in found])
    if batch_first:
        return y.permute(2, 0, 1, 3), last.transpose(0, 1), cell.transpose(0, 1)
    return (y, last, cell) if kind == "LSTM" else (y, last)


def _one_way(
    call: Call,
    kind: str,
    own: Direction,
    x: Tensor,
    lengths: Tensor | None,
    h: Tensor,
    c: Tensor,
    backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if lengths is None and _plain(call, kind, own):
        return _by_torch(kind, own, x.flip(0) if backward else x, h, c, backward)
    steps = range(len(x) - 1, -1, -1) if backward else range(len(x))
    gates = F.linear(x, own.w)
    out: list[Tensor] = [h] * len(x)
    for at in steps:
        new_h, new_c = CELLS[kind](call, own, gates[at], h, c)
        if lengths is None:
            h, c = new_h, new_c
            out[at] = h
        else:
            live = (at < lengths).unsqueeze(1).to(x.device)
            h, c = torch.where(live, new_h, h), torch.where(live, new_c, c)
            out[at] = torch.where(live, new_h, torch.zeros_like(new_h))
    return torch.stack(out) if out else x.new_zeros(0, *h.shape), h, c


def _plain(call: Call, kind: str, own: Direction) -> bool:
    usual = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}.get(kind.lower())
    names = tuple(name.lower() for name in call.texts("activations") or usual or ())
    unusual = own.p is not None or own.clip or call.integer("input_forget")
    after = kind == "LSTM" or call.integer("linear_before_reset")
    return usual is not None and names[: len(usual)] == usual and not unusual and bool(after)


def _by_torch(
    kind: str, own: Direction, x: Tensor, h: Tensor, c: Tensor, backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates i o f c, or z r h, become torch's i f c o, or r z h."""
    order = [0, 2, 3, 1] if kind == "LSTM" else [1, 0, 2]
    w, r = (_ordered(each, order) for each in (own.w, own.r))
    one, two = (_ordered(each, order) for each in own.b.chunk(2))
    weights, h, c = [w, r, one, two], h.unsqueeze(0), c.unsqueeze(0)
    if kind == "LSTM":
        y, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, False, False, False)
    else:
        y, h = torch.gru(x, h, weights, True, 1, 0.0, False, False, False)
    return y.flip(0) if backward else y, h[0], c[0]


def _ordered(tensor: Tensor, order: Sequence[int]) -> Tensor:
    parts = tensor.chunk(len(order))
    return torch.cat([parts[at] for at in order])


def _bounded(own: Direction, x: Tensor) -> Tensor:
    return x.clamp(-own.clip, own.clip) if own.clip else x


def _lstm(call: Call, own: Direction, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    wb, rb = own.b.chunk(2)
    i, o, f, g = (x + F.linear(h, own.r) + wb + rb).chunk(4, -1)
    first, inner, last = own.squashes
    pi, po, pf = (0.0, 0.0, 0.0) if own.p is None else own.p.chunk(3)
    i = first(_bounded(own, i + pi * c))
    f = 1 - i if call.integer("input_forget") else first(_bounded(own, f + pf * c))
    c = f * c + i * inner(_bounded(own, g))
    return first(_bounded(own, o + po * c)) * last(c), c


def _gru(call: Call, own: Direction, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    width = h.shape[-1]
    wb, rb = own.b.chunk(2)
    first, inner = own.squashes
    two, rest = (own.r[: 2 * width], own.r[2 * width :])
    z, r = (
        first(_bounded(own, each))
        for each in (x[..., : 2 * width] + F.linear(h, two) + (wb + rb)[: 2 * width]).chunk(2, -1)
    )
    wide, bias = x[..., 2 * width :] + wb[2 * width :], rb[2 * width :]
    after = (
        r * F.linear(h, rest, bias) if call.integer("linear_before_reset") else F.linear(r * h, rest, bias)
    )
    new = inner(_bounded(own, wide + after))
    return (1 - z) * new + z * h, c


def _rnn(call: Call, own: Direction, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    wb, rb = own.b.chunk(2)
    return own.squashes[0](_bounded(own, x + F.linear(h, own.r) + wb + rb)), c


CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
ROWS = {"LSTM": recurrent, "GRU": recurrent, "RNN": recurrent}
HOST: dict[str, tuple[int, ...]] = {}
