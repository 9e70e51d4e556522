"""Operators that a runtime fused, as the sum of their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch import linear, norm
from graphprune.ops.torch.call import Call, Tensor
from graphprune.ops.torch.select import positions


def fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """A product of transposed operands, times alpha."""
    if call.integer("transBatchA"):
        a = a.movedim(-2, 0) if a.dim() > 2 else a
    if call.integer("transBatchB"):
        b = b.movedim(-2, 0) if b.dim() > 2 else b
    a = a.mT if call.integer("transA") and a.dim() > 1 else a
    b = b.mT if call.integer("transB") and b.dim() > 1 else b
    alpha, out = call.real("alpha", 1.0), torch.matmul(a, b)
    return out if alpha == 1.0 else alpha * out


def activated_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """A product and an activation."""
    return linear.activated(call, fused_matmul(call, a, b), _parameters(call, "alpha", "beta", "gamma"))


def _parameters(call: Call, *names: str) -> list[float]:
    found = [call.attributes.get(f"activation_{name}") for name in names]
    return [float(each) for each in found if isinstance(each, float)]


def fused_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """A Gemm and an activation."""
    return linear.activated(call, linear.gemm(call, a, b, c), _parameters(call, "alpha", "beta", "gamma"))


def fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by tanh, after a bias."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def skip_norm(call: Call, x: Tensor, skip: Tensor, *rest: Tensor | None) -> tuple[Tensor | None, ...]:
    """A sum, and a norm of it; the sum is a result, too."""
    simple = call.op.endswith("SimplifiedLayerNormalization")
    scale, beta, bias = (*rest, *[None] * 3)[:3] if not simple else (rest[0], None, (*rest, None)[1])
    total = x + skip
    total = total if bias is None else total + bias
    assert scale is not None
    if simple:
        y, factor = norm.root_mean_square(total, scale, [-1], call.real("epsilon", 1e-12))
        return y, None, factor, total
    y, *stats = _layer_norm(call, total, scale, beta)
    return (y, *(*stats, None, None)[:2], total)


def _layer_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    epsilon = call.real("epsilon", 1e-12)
    return (F.layer_norm(x, [x.shape[-1]], scale, bias, epsilon),)


def embed_norm(
    call: Call,
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    places: Tensor,
    kinds: Tensor | None,
    scale: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    at: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The sum of three tables, and a norm of it; how many tokens are none; the sum."""
    at = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape) if at is None else at
    total = F.embedding(positions(ids, len(words)), words) + F.embedding(at.long(), places)
    if segments is not None and kinds is not None:
        total = total + F.embedding(segments.long(), kinds)
    count = torch.zeros(len(ids), dtype=torch.int32) if mask is None else mask.sum(1, dtype=torch.int32)
    return _layer_norm(call, total, scale, bias)[0], count, total


def channels_last(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator on pictures whose channels come last."""

    def turned(call: Call, x: Tensor, *rest: Tensor | None) -> Tensor:
        sums = [
            each if each is None or each.dim() < x.dim() or at != 2 else each.movedim(-1, 1)
            for at, each in enumerate(rest)
        ]
        out = run(call, x.movedim(-1, 1), *sums)
        return (out[0] if isinstance(out, tuple) else out).movedim(1, -1)

    return turned


def group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """com.microsoft GroupNorm: channels last unless said, with SiLU if asked for."""
    last = bool(call.integer("channels_last", 1))
    moved = x.movedim(-1, 1) if last else x
    out = torch.group_norm(moved, call.integer("groups"), scale, bias, call.real("epsilon", 1e-5))
    out = F.silu(out) if call.integer("activation") else out
    return out.movedim(1, -1) if last else out


def skip_group_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, skip: Tensor, added: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A sum, and a GroupNorm of it."""
    skip = skip[:, None, None] if skip.dim() == 2 else skip
    total = x + skip if added is None else x + skip + added
    return group_norm(call, total, scale, bias), total


def causal_conv(
    call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A window per channel over what came before; its end is the next state."""
    if call.integer("channels_last") or call.integer("state_window") or x.dim() != 3:
        raise call.refuse("channels last and windows of states are not written out")
    spread = call.integer("dilation", 1)
    length = (w.shape[2] - 1) * spread
    state = x.new_zeros(*x.shape[:2], length) if state is None else state
    whole = torch.cat([state, x], 2)
    out = F.conv1d(whole, w, bias, dilation=spread, groups=x.shape[1])
    name = call.text("activation", "none")
    if name not in ("none", "silu", "swish", ""):
        raise call.refuse(f"its activation '{name}' is not known")
    return (out if name in ("none", "") else F.silu(out)), whole[:, :, whole.shape[2] - length :]


def biased_softmax(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    """A softmax over all axes from one on, after a bias that broadcasts on the inside or outside."""
    axis = call.integer("axis", 1) % x.dim()
    if not call.integer("is_inner_broadcast", 1) and bias.dim() < x.dim():
        bias = bias.reshape(*bias.shape[:axis], *[1] * (x.dim() - bias.dim()), *bias.shape[axis:])
    total = x + bias
    return torch.softmax(total.flatten(axis), -1).reshape(x.shape)


def biased_dropout(call: Call, x: Tensor, bias: Tensor, residual: Tensor | None = None, *_: Tensor) -> Tensor:
    """A bias and a residual; nothing is dropped outside training."""
    return x + bias if residual is None else x + bias + residual


def split_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    """One half times the Gelu of the other."""
    one, two = (x + bias).chunk(2, -1)
    return one * F.gelu(two)


def swiglu(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The product of b and the SiLU of a."""
    alpha = call.real("alpha", 1.0)
    return (F.silu(a) if alpha == 1.0 else a * torch.sigmoid(alpha * a)) * b


def _complex(call: Call, a: Tensor, b: Tensor) -> Tensor:
    one, two = torch.view_as_complex(a.contiguous()), torch.view_as_complex(b.contiguous())
    return torch.view_as_real(one * (two.conj() if call.op.endswith("Conj") else two))


def _rows(names: Sequence[str], run: Callable[..., object]) -> dict[str, Callable[..., object]]:
    return {f"com.microsoft:{name}": run for name in names}


ROWS: dict[str, Callable[..., object]] = {
    **_rows(["FusedMatMul", "TransposeMatMul"], fused_matmul),
    **_rows(["FusedMatMulActivation"], activated_matmul),
    **_rows(["FusedGemm"], fused_gemm),
    **_rows(["GemmFastGelu"], lambda call, a, b, bias=None: fast_gelu(call, a @ b, bias)),
    **_rows(["BiasGelu"], lambda call, x, bias: F.gelu(x + bias)),
    **_rows(["FastGelu"], fast_gelu),
    **_rows(["BiasAdd"], lambda call, x, bias, skip: x + bias + skip),
    **_rows(["BiasDropout", "BitmaskBiasDropout"], biased_dropout),
    **_rows(["BiasSoftmax"], biased_softmax),
    **_rows(["BiasSplitGelu"], split_gelu),
    **_rows(["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"], skip_norm),
    **_rows(["EmbedLayerNormalization"], embed_norm),
    **_rows(["NhwcFusedConv"], channels_last(linear.fused_conv)),
    **_rows(["GroupNorm"], group_norm),
    **_rows(["SkipGroupNorm"], skip_group_norm),
    **_rows(["CausalConvWithState"], causal_conv),
    **_rows(["ComplexMul", "ComplexMulConj"], _complex),
    **_rows(["Inverse"], lambda call, x: torch.linalg.inv(x)),
    **_rows(["IsAllFinite"], lambda call, *each: torch.stack([x.isfinite().all() for x in each]).all()),
    "CausalConvWithState": causal_conv,
    "SwiGLU": swiglu,
}
HOST: dict[str, tuple[int, ...]] = {}
