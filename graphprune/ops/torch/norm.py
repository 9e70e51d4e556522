"""Normalisers, by their formulas: gradients reach statistics, too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor, along


def batch_norm(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, ...]:
    """By stored statistics, or in training mode by those of the batch, which then move the stored ones."""
    training = call.integer("training_mode") if call.opset >= 14 else len(call.wanted) > 1
    epsilon, rank = call.real("epsilon", 1e-5), x.dim()
    if not training:
        if x.dtype == scale.dtype == mean.dtype and not (mean.requires_grad or variance.requires_grad):
            return (torch.batch_norm(x, scale, bias, mean, variance, False, 0.0, epsilon, False),)
        factor = scale.to(variance.dtype) * torch.rsqrt(variance + epsilon)
        shift = bias - mean * factor
        return ((x * along(factor, rank, 1) + along(shift, rank, 1)).to(x.dtype),)
    axes = [axis for axis in range(rank) if axis != 1]
    own, spread = x.mean(axes), x.var(axes, correction=0)
    factor = scale * torch.rsqrt(spread + epsilon)
    y = (x - along(own, rank, 1)) * along(factor, rank, 1) + along(bias, rank, 1)
    momentum = call.real("momentum", 0.9)
    moved = [old * momentum + new * (1 - momentum) for old, new in ((mean, own), (variance, spread))]
    return (y, *moved, own, spread)


def instance_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every channel of every sample by itself."""
    return torch.group_norm(x, x.shape[1], scale, bias, call.real("epsilon", 1e-5))


def group_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Groups of channels; before opset 21 one scale and bias per group."""
    groups = call.integer("num_groups")
    if call.opset < 21 and len(scale) == groups:
        scale, bias = (each.repeat_interleave(x.shape[1] // groups) for each in (scale, bias))
    return torch.group_norm(x, groups, scale, bias, call.real("epsilon", 1e-5))


def layer_norm(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    """Over all axes from one on; mean and reciprocal of the deviation as further results."""
    axis = call.integer("axis", -1) % x.dim()
    return normalised(call, x, scale, bias, x.shape[axis:])


def normalised(
    call: Call, x: Tensor, scale: Tensor | None, bias: Tensor | None, width: Sequence[int]
) -> tuple[Tensor, ...]:
    """A layer norm over the last axes."""
    epsilon = call.real("epsilon", 1e-5)
    plain = all(each is None or each.shape == torch.Size(width) for each in (scale, bias))
    y = F.layer_norm(x, width, scale if plain else None, bias if plain else None, epsilon)
    if not plain:
        y = y if scale is None else y * scale
        y = y if bias is None else y + bias
    if not (call.wants(1) or call.wants(2)):
        return (y,)
    axes = list(range(x.dim() - len(width), x.dim()))
    mean = x.mean(axes, keepdim=True)
    return y, mean, torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)


def rms_norm(call: Call, x: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    """Divides by the root of the mean square over all axes from one on."""
    axes = list(range(call.integer("axis", -1) % x.dim(), x.dim()))
    return root_mean_square(x, scale, axes, call.real("epsilon", 1e-5))


def root_mean_square(
    x: Tensor, scale: Tensor | None, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor]:
    """The result, and what x was multiplied by; in single precision at least."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    factor = torch.rsqrt(wide.square().mean(list(axes), keepdim=True) + epsilon)
    y = (wide * factor).to(x.dtype)
    return (y if scale is None else (y * scale).to(x.dtype)), factor


ROWS = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "com.microsoft:LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "SimplifiedLayerNormalization": rms_norm,
    "com.microsoft:SimplifiedLayerNormalization": rms_norm,
}
HOST: dict[str, tuple[int, ...]] = {}
