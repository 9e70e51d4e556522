"""Fused attention, written out: double derivatives exist, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from graphprune.ops.torch.call import Call, Tensor, number

MASKED = -1e4
"""What com.microsoft adds where a mask is 0, unless the node says otherwise."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What is done to the products of queries and keys before they are weights.

    Attributes:
        scale: multiplies them.
        bias: is added.
        softcap: bounds them, if above 0, before anything is added.
        allowed: where a key may be seen; None everywhere.
        sink: per head, the logit of a key without value.
    """

    scale: float
    bias: Tensor | None = None
    softcap: float = 0.0
    allowed: Tensor | None = None
    sink: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Attended:
    """A result, and the scores on their way: products, capped, with bias and mask, weights."""

    y: Tensor
    stages: tuple[Tensor, Tensor, Tensor, Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, scores: Scores) -> Attended:
    """[B, H, S, D] queries over keys; fewer key heads are repeated."""
    if k.shape[1] != q.shape[1]:
        repeats = q.shape[1] // k.shape[1]
        k, v = (each.repeat_interleave(repeats, 1) for each in (k, v))
    raw = (q * scores.scale) @ k.mT
    capped = scores.softcap * torch.tanh(raw / scores.softcap) if scores.softcap else raw
    masked = capped if scores.bias is None else capped + scores.bias
    if scores.allowed is not None:
        masked = masked.masked_fill(~scores.allowed, -math.inf)
    weights = _softmax(masked, scores)
    return Attended(weights.to(v.dtype) @ v, (raw, capped, masked, weights))


def _softmax(x: Tensor, scores: Scores) -> Tensor:
    """Rows that may see nothing get no weight at all."""
    if scores.sink is not None:
        sink = scores.sink.reshape(1, -1, 1, 1).expand(x.shape[0], -1, x.shape[2], 1).to(x.dtype)
        return torch.softmax(torch.cat([x, sink], -1), -1)[..., :-1]
    weights = torch.softmax(x, -1)
    if scores.allowed is None and scores.bias is None:
        return weights
    return torch.where(torch.isneginf(x).all(-1, keepdim=True), torch.zeros_like(weights), weights)


def heads_of(x: Tensor, count: int) -> Tensor:
    """[B, S, H x D] as [B, H, S, D]."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """[B, H, S, D] as [B, S, H x D]."""
    return x.transpose(1, 2).flatten(2)


def causal(queries: int, keys: int, past: int, device: torch.device, window: int = -1) -> Tensor:
    """[S, T]: a query sees itself and the keys before it, of a window only the nearest."""
    row = torch.arange(queries, device=device).unsqueeze(1) + past
    column = torch.arange(keys, device=device)
    seen = column <= row
    return seen if window < 0 else seen & (column > row - window)


def attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Attention of ai.onnx, 3-D or 4-D, with mask, cache and softcap."""
    three = q.dim() == 3
    if three:
        q = heads_of(q, call.integer("q_num_heads"))
        k, v = (heads_of(each, call.integer("kv_num_heads")) for each in (k, v))
    past = 0 if past_k is None else past_k.shape[2]
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    keys, allowed, bias = k.shape[2], None, mask
    if mask is not None and mask.shape[-1] < keys:
        filler = mask.new_full(
            (*mask.shape[:-1], keys - mask.shape[-1]), False if mask.dtype == torch.bool else -math.inf
        )
        bias = mask = torch.cat([mask, filler], -1)
    if mask is not None and mask.dtype == torch.bool:
        allowed, bias = mask, None
    for seen in _seen(call, q, keys, past, lengths):
        allowed = seen if allowed is None else allowed & seen
    scale = call.real("scale") or 1 / math.sqrt(q.shape[-1])
    found = attend(q, k, v, Scores(scale, bias, call.real("softcap"), allowed))
    shown = found.stages[call.integer("qk_matmul_output_mode")]
    return (joined(found.y) if three else found.y), k, v, shown


def _seen(call: Call, q: Tensor, keys: int, past: int, lengths: Tensor | None) -> Iterator[Tensor]:
    """Keys that are there, that are not ahead of the query, and that are within a window around it."""
    column = torch.arange(keys, device=q.device)
    offset: Tensor | int = past
    if lengths is not None:
        valid = lengths.reshape(-1, 1, 1, 1)
        offset = valid - q.shape[2]
        yield column < valid
    behind = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + offset - column
    if call.integer("is_causal"):
        yield behind >= 0
    left, right = call.integer("left_window_size", -1), call.integer("right_window_size", -1)
    if left >= 0:
        yield behind <= left
    if right >= 0:
        yield -behind <= right


def multi_head(
    call: Call,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    padding: Tensor | None = None,
    added: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
    *_: Tensor | None,
) -> tuple[Tensor, ...]:
    """com.microsoft MultiHeadAttention, packed or not."""
    count = call.integer("num_heads")
    if q.dim() == 5:
        q, k, v = (each.flatten(2) for each in q.unbind(3))
    elif k is not None and k.dim() == 5:
        k, v = (each.flatten(2) for each in k.unbind(3))
    assert k is not None and v is not None
    if bias is not None:
        width = q.shape[-1]
        parts = bias.split([width, width, len(bias) - 2 * width])
        q = q + parts[0]
        k, v = (e + p if e.dim() == 3 else e for e, p in ((k, parts[1]), (v, parts[2])))
    q = heads_of(q, count)
    k, v = (each if each.dim() == 4 else heads_of(each, count) for each in (k, v))
    past = 0 if past_k is None else past_k.shape[2]
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    allowed = causal(q.shape[2], k.shape[2], past, q.device) if call.integer("unidirectional") else None
    hidden = _padding(call, padding, q.shape[2], k.shape[2], q.dtype)
    added = hidden if added is None else added if hidden is None else added + hidden
    scale = call.real("scale") or 1 / math.sqrt(q.shape[-1])
    found = attend(q, k, v, Scores(scale, added, allowed=allowed))
    return joined(found.y), k, v, found.stages[2]


def _padding(call: Call, mask: Tensor | None, queries: int, keys: int, kind: torch.dtype) -> Tensor | None:
    """What is added where tokens are padding: [B, T], [B] lengths, [B, S, T] or [B, H, S, T]."""
    if mask is None:
        return None
    if mask.dim() == 1:
        if len(mask) == 0:
            return None
        mask = torch.arange(keys, device=mask.device) < mask.unsqueeze(1)
    value = call.real("mask_filter_value", MASKED)
    lead = {2: (slice(None), None, None), 3: (slice(None), None), 4: ()}[mask.dim()]
    shown = mask[lead] if lead else mask
    return (1 - shown.to(kind)) * value


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, interleaved: bool, size: int = 0) -> Tensor:
    """Pairs of head dims turned by an angle; x is [B, H, S, D], the angles are [B or 1, S, D / 2]."""
    cosine, sine = (each.unsqueeze(1).to(x.dtype) for each in (cosine, sine))
    size = size or 2 * cosine.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    one, two = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    a, b = cosine * one - sine * two, sine * one + cosine * two
    out = torch.stack([a, b], -1).flatten(-2) if interleaved else torch.cat([a, b], -1)
    return torch.cat([out, rest], -1) if rest.shape[-1] else out


def group_query(
    call: Call,
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    past_k: Tensor | None,
    past_v: Tensor | None,
    lengths: Tensor,
    total: Tensor,
    cosine: Tensor | None = None,
    sine: Tensor | None = None,
    places: Tensor | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    *more: Tensor | None,
) -> tuple[Tensor, ...]:
    """com.microsoft GroupQueryAttention: rotation, cache, causal mask, a window."""
    if any(each is not None for each in more) or call.integer("smooth_softmax"):
        raise call.refuse("a quantised cache, norms inside it and a smooth softmax are not written out")
    heads, groups = call.integer("num_heads"), call.integer("kv_num_heads")
    if k is None or v is None:
        size = q.shape[-1] // (heads + 2 * groups)
        q, k, v = q.split([heads * size, groups * size, groups * size], -1)
    q, k, v = heads_of(q, heads), heads_of(k, groups), heads_of(v, groups)
    seen = lengths.reshape(-1).long() + 1  # of each sample, all keys
    before = (
        seen - q.shape[2] if int(number(total)) > q.shape[2] or q.shape[2] == 1 else torch.zeros_like(seen)
    )
    if call.integer("do_rotary") and cosine is not None and sine is not None:
        at = (
            before.unsqueeze(1) + torch.arange(q.shape[2], device=before.device) if places is None else places
        )
        at = at.long().clamp(min=0)
        turned = bool(call.integer("rotary_interleaved"))
        q, k = (rotate(each, cosine[at], sine[at], turned) for each in (q, k))
    if past_k is not None and past_v is not None and past_k.shape[2]:
        k, v = (_written(one, two, before, int(number(total))) for one, two in ((past_k, k), (past_v, v)))
    row = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + before.reshape(-1, 1, 1, 1).to(q.device)
    column = torch.arange(k.shape[2], device=q.device)
    allowed, window = column <= row, call.integer("local_window_size", -1)
    allowed = allowed if window < 0 else allowed & (column > row - window)
    scale = call.real("scale") or 1 / math.sqrt(q.shape[-1])
    scores = Scores(scale, bias, call.real("softcap"), allowed, sink)
    found = attend(q, k, v, scores)
    return joined(found.y), k, v


def _written(past: Tensor, new: Tensor, before: Tensor, total: int) -> Tensor:
    """New keys behind the past ones of each sample, which may be padded."""
    room = max(total, past.shape[2])
    cache = torch.cat([past, past.new_zeros(*past.shape[:2], room - past.shape[2], past.shape[3])], 2)
    at = before.unsqueeze(1) + torch.arange(new.shape[2], device=before.device)
    index = at.reshape(len(at), 1, -1, 1).expand(new.shape).to(new.device)
    return cache.scatter(2, index, new)


def packed(
    call: Call,
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    added: Tensor | None = None,
    *more: Tensor | None,
) -> tuple[Tensor, ...]:
    """com.microsoft Attention: the projection, too."""
    if any(each is not None for each in more) or call.integer("do_rotary"):
        raise call.refuse("a shared cache and rotation inside it are not written out")
    both = x @ w if b is None else x @ w + b
    sizes = call.integers("qkv_hidden_sizes") or [both.shape[-1] // 3] * 3
    return projected(call, both, sizes, mask, past, added)


def projected(
    call: Call, both: Tensor, sizes: list[int], mask: Tensor | None, past: Tensor | None, added: Tensor | None
) -> tuple[Tensor, ...]:
    """Attention over queries, keys and values that lie side by side."""
    q, k, v = (heads_of(each, call.integer("num_heads")) for each in both.split(sizes, -1))
    before = 0 if past is None else past.shape[3]
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    allowed = causal(q.shape[2], k.shape[2], before, q.device) if call.integer("unidirectional") else None
    hidden = _padding(call, mask, q.shape[2], k.shape[2], q.dtype)
    added = hidden if added is None else added if hidden is None else added + hidden
    scale = call.real("scale") or 1 / math.sqrt(q.shape[-1])
    found = attend(q, k, v, Scores(scale, added, allowed=allowed))
    return joined(found.y), torch.stack([k, v]) if k.shape == v.shape and call.wants(1) else k


def rotary(call: Call, x: Tensor, cosine: Tensor, sine: Tensor, places: Tensor | None = None) -> Tensor:
    """Rotation of ai.onnx, 3-D or 4-D."""
    if places is not None:
        cosine, sine = cosine[places.long()], sine[places.long()]
    return _turned(call, x, cosine, sine)


def contrib_rotary(call: Call, x: Tensor, places: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotation of com.microsoft: one first position for all samples, or each token's own."""
    if call.integer("is_packed_batching"):
        raise call.refuse("packed batches are not written out")
    tokens = x.shape[-2]
    if places.numel() == 1:
        places = places.reshape(1, 1) + torch.arange(tokens, device=places.device)
    places = places.long()
    return call.real("scale", 1.0) * _turned(call, x, cosine[places], sine[places])


def _turned(call: Call, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    size, turned = call.integer("rotary_embedding_dim"), bool(call.integer("interleaved"))
    if x.dim() == 4:
        return rotate(x, cosine, sine, turned, size)
    count = call.integer("num_heads") or x.shape[-1] // (size or 2 * cosine.shape[-1])
    return joined(rotate(heads_of(x, count), cosine, sine, turned, size))


def linear_attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A token writes k v' into the state of its head, decayed before and corrected by what it recalls."""
    if call.integer("state_window"):
        raise call.refuse("a window of states is not written out")
    rule, heads, groups = (
        call.text("update_rule", "gated_delta"),
        call.integer("q_num_heads"),
        call.integer("kv_num_heads"),
    )
    q, k, v = heads_of(q, heads), heads_of(k, groups), heads_of(v, groups)
    scale = call.real("scale") or 1 / math.sqrt(q.shape[-1])
    if state is None:
        state = q.new_zeros(q.shape[0], groups, k.shape[-1], v.shape[-1])
    gates = None if decay is None or "gated" not in rule else heads_of(decay, groups).exp()
    rates = None if beta is None else heads_of(beta, groups if beta.shape[-1] % groups == 0 else 1)
    most = max(heads, groups)
    out = []
    for at in range(q.shape[2]):
        if gates is not None:
            state = state * gates[:, :, at].unsqueeze(-1)
        value = v[:, :, at]
        if "delta" in rule:
            value = value - (k[:, :, at].unsqueeze(-2) @ state).squeeze(-2)
            value = value if rates is None else value * rates[:, :, at]
        state = state + k[:, :, at].unsqueeze(-1) * value.unsqueeze(-2)
        query, memory = q[:, :, at], state
        if heads < most:
            query = query.repeat_interleave(most // heads, 1)
        if groups < most:
            memory = memory.repeat_interleave(most // groups, 1)
        out.append(scale * (query.unsqueeze(-2) @ memory).squeeze(-2))
    return joined(torch.stack(out, 2)), state


ROWS: dict[str, Callable[..., object]] = {
    "Attention": attention,
    "com.microsoft:MultiHeadAttention": multi_head,
    "com.microsoft:GroupQueryAttention": group_query,
    "com.microsoft:Attention": packed,
    "RotaryEmbedding": rotary,
    "com.microsoft:RotaryEmbedding": contrib_rotary,
    "LinearAttention": linear_attention,
    "com.microsoft:LinearAttention": linear_attention,
}
HOST = {"com.microsoft:GroupQueryAttention": (6,)}
