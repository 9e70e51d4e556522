"""Mixtures of experts: every token goes through the k that its router likes best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor, unpacked

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "identity": lambda x: x,
}


@dataclass(frozen=True, eq=False)
class Layer:
    """Stacked weights [E, out, in] and biases [E, out]."""

    weight: Tensor
    bias: Tensor | None

    def run(self, x: Tensor, expert: int) -> Tensor:
        """One expert."""
        return F.linear(x, self.weight[expert], None if self.bias is None else self.bias[expert])


def mixture(call: Call, x: Tensor, router: Tensor, first: Layer, second: Layer, gate: Layer | None) -> Tensor:
    """The experts' results, weighted by the router's probabilities."""
    tokens = x.reshape(-1, x.shape[-1])
    shares = torch.softmax(router, -1)
    values, chosen = shares.topk(call.integer("k", 1), -1)
    if call.integer("normalize_routing_weights"):
        values = values / values.sum(-1, keepdim=True)
    out = torch.zeros_like(tokens)
    for expert in range(router.shape[-1]):
        rows, places = (chosen == expert).nonzero(as_tuple=True)
        if len(rows):
            given = tokens[rows]
            result = second.run(_inner(call, given, expert, first, gate), expert)
            out = out.index_add(0, rows, result * values[rows, places].unsqueeze(-1))
    return out.reshape(x.shape)


def _inner(call: Call, x: Tensor, expert: int, first: Layer, gate: Layer | None) -> Tensor:
    hidden, name = first.run(x, expert), call.text("activation_type", "relu")
    if name == "swiglu":
        return _swiglu(call, hidden)
    if name not in ACTIVATIONS:
        raise call.refuse(f"its activation '{name}' is not known")
    hidden = ACTIVATIONS[name](hidden)
    return hidden if gate is None else hidden * gate.run(x, expert)


def _swiglu(call: Call, hidden: Tensor) -> Tensor:
    """Gate and linear part lie in turns (1) or side by side (2)."""
    fused = call.integer("swiglu_fusion")
    gate, line = (hidden[..., ::2], hidden[..., 1::2]) if fused != 2 else hidden.chunk(2, -1)
    limit = call.attributes.get("swiglu_limit")
    if isinstance(limit, float):
        gate, line = gate.clamp(max=limit), line.clamp(-limit, limit)
    alpha, beta = call.real("activation_alpha", 1.0), call.real("activation_beta", 0.0)
    return gate * torch.sigmoid(alpha * gate) * (line + beta)


def moe(
    call: Call,
    x: Tensor,
    router: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None = None,
    w3: Tensor | None = None,
    b3: Tensor | None = None,
) -> Tensor:
    """com.microsoft MoE."""
    if call.integer("use_sparse_mixer"):
        raise call.refuse("the sparse mixer's router is not written out")
    return mixture(call, x, router, Layer(w1, b1), Layer(w2, b2), None if w3 is None else Layer(w3, b3))


def quantised_moe(
    call: Call,
    x: Tensor,
    router: Tensor,
    w1: Tensor,
    s1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    s2: Tensor,
    b2: Tensor | None = None,
    w3: Tensor | None = None,
    s3: Tensor | None = None,
    b3: Tensor | None = None,
    *zeros: Tensor | None,
) -> Tensor:
    """com.microsoft QMoE: symmetric codes, one scale per row."""
    if any(each is not None for each in zeros) or call.integer("block_size"):
        raise call.refuse("experts with zero points or in blocks are not written out")
    bits = call.integer("expert_weight_bits", 4)

    def layer(codes: Tensor, scale: Tensor, bias: Tensor | None) -> Layer:
        wide = unpacked(codes, bits) if bits < 8 else codes
        numbers = (wide.to(scale.dtype) - 2 ** (bits - 1)) * scale.unsqueeze(-1)
        return Layer(numbers.to(x.dtype), bias)

    gate = None if w3 is None or s3 is None else layer(w3, s3, b3)
    return mixture(call, x, router, layer(w1, s1, b1), layer(w2, s2, b2), gate)


ROWS: dict[str, Callable[..., object]] = {"com.microsoft:MoE": moe, "com.microsoft:QMoE": quantised_moe}
HOST: dict[str, tuple[int, ...]] = {}
