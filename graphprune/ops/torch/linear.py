"""Products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SPREAD = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
PICTURE = 2
"""Axes of a picture."""
ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "": lambda x: x,
    "Relu": torch.relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "Clip": lambda x, low, high: F.hardtanh(x, low, high),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: F.hardtanh(alpha * x + beta, 0.0, 1.0),
    "HardSwish": lambda x, *_: F.hardswish(x),
    "Gelu": F.gelu,
}
"""What fused operators apply to their sum, by the name in `activation`, with its parameters."""


def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """As numpy's."""
    return torch.matmul(a, b)


def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """The product alpha A B, and beta C."""
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    a = a.mT if call.integer("transA") else a
    scaled = c if c is None or beta == 1.0 else beta * c
    if (
        call.integer("transB")
        and alpha == 1.0
        and (scaled is None or (scaled.dim() == 1 and len(scaled) == len(b)))
    ):
        return F.linear(a, b, scaled)
    out = a @ (b.mT if call.integer("transB") else b)
    out = out if alpha == 1.0 else alpha * out
    return out if scaled is None else out + scaled


def einsum(call: Call, *operands: Tensor) -> Tensor:
    """Any product that an equation states."""
    return torch.einsum(call.text("equation").replace(" ", ""), *operands)


def windows(call: Call, rank: int, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and kernel sizes, per spatial axis."""
    ones = [1] * rank
    return call.integers("strides") or ones, call.integers("dilations") or ones, list(kernel)


def padding(
    call: Call, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """What goes before and behind each spatial axis."""
    how, rank = call.text("auto_pad", "NOTSET"), len(size)
    if how == "VALID":
        return [(0, 0)] * rank
    if how not in ("NOTSET", ""):
        out = []
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            less = total // 2
            out.append((less, total - less) if how == "SAME_UPPER" else (total - less, less))
        return out
    pads = call.integers("pads") or [0] * 2 * rank
    return list(zip(pads[:rank], pads[rank:], strict=True))


def flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Pads in torch's order: the last axis first."""
    return [each for pair in reversed(pads) for each in pair]


def symmetric(pads: Sequence[tuple[int, int]]) -> bool:
    """Whether the same goes before and behind every axis."""
    return all(before == behind >= 0 for before, behind in pads)


def conv(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Windows of the input times a weight."""
    rank = x.dim() - 2
    if rank not in CONV:
        raise call.refuse(f"torch convolves over 1 to 3 axes, not {rank}")
    strides, dilations, kernel = windows(call, rank, w.shape[2:])
    pads = padding(call, x.shape[2:], kernel, strides, dilations)
    if not symmetric(pads):
        x, pads = F.pad(x, flat(pads)), [(0, 0)] * rank
    line = rank == PICTURE and 1 in x.shape[2:] and w[0, 0].numel() > 1
    if line and w.requires_grad and x.numel() > w.numel():
        x, w = _channels_last(x), _channels_last(w)
    return CONV[rank](x, w, b, strides, [before for before, _ in pads], dilations, call.integer("group", 1))


def _channels_last(x: Tensor) -> Tensor:
    """In memory: over pictures of one row or column oneDNN computes gradients twice as fast so."""
    try:
        return x.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # torch maps over samples, and lays them out itself
        return x


def conv_transpose(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Every element of the input goes to a window of the output."""
    rank = x.dim() - 2
    if rank not in SPREAD:
        raise call.refuse(f"torch convolves over 1 to 3 axes, not {rank}")
    strides, dilations, kernel = windows(call, rank, w.shape[2:])
    extra = call.integers("output_padding") or [0] * rank
    spans = [
        s * (n - 1) + e + (k - 1) * d + 1
        for n, s, e, k, d in zip(x.shape[2:], strides, extra, kernel, dilations, strict=True)
    ]
    pads, groups = _spread_pads(call, x, strides, spans), call.integer("group", 1)
    if symmetric(pads) and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return SPREAD[rank](x, w, b, strides, [before for before, _ in pads], extra, groups, dilations)
    whole = SPREAD[rank](x, w, None, strides, 0, 0, groups, dilations)
    out = F.pad(whole, flat([(-p, e - q) for (p, q), e in zip(pads, extra, strict=True)]))
    return out if b is None else out + b.reshape(-1, *[1] * rank)


def _spread_pads(
    call: Call, x: Tensor, strides: Sequence[int], spans: Sequence[int]
) -> list[tuple[int, int]]:
    """What is cut off before and behind each axis of the result."""
    rank, how, wanted = len(spans), call.text("auto_pad", "NOTSET"), call.integers("output_shape")
    if wanted is None and how in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is None:
        pads = [0] * 2 * rank if how == "VALID" else call.integers("pads") or [0] * 2 * rank
        return list(zip(pads[:rank], pads[rank:], strict=True))
    out = []
    for span, size in zip(spans, wanted[-rank:], strict=True):
        less = (span - size) // 2
        more = span - size - less
        out.append((less, more) if how == "SAME_UPPER" else (more, less))
    return out


def activated(call: Call, x: Tensor, parameters: Sequence[float] = ()) -> Tensor:
    """What the attribute `activation` names, of a sum."""
    name = call.text("activation")
    if name not in ACTIVATIONS:
        raise call.refuse(f"its activation '{name}' is not known")
    return ACTIVATIONS[name](x, *parameters)


def fused_conv(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    """A convolution, a sum and an activation."""
    out = conv(call, x, w, b)
    given = call.attributes.get("activation_params")
    return activated(call, out if z is None else out + z, given if isinstance(given, tuple) else ())


ROWS = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "com.microsoft:FusedConv": fused_conv,
}
HOST: dict[str, tuple[int, ...]] = {}
