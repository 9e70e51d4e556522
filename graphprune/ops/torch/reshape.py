"""Operators that regroup axes: elements stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor, axes_of, number, sizes


def reshape(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """0 keeps a size, -1 is what is left."""
    wanted = sizes(shape)
    if not call.integer("allowzero") and 0 in wanted:
        wanted = [x.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(call: Call, x: Tensor) -> Tensor:
    """To two axes."""
    axis = call.integer("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))


def transpose(call: Call, x: Tensor) -> Tensor:
    """Axes in another order, the reverse one unless it is said."""
    return x.permute(call.integers("perm") or list(range(x.dim()))[::-1])


def squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Without axes of size 1: all, or those that are named."""
    chosen = axes_of(call, axes, x.dim())
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """With more axes of size 1."""
    count = len(call.integers("axes") or []) if axes is None else axes.numel()
    for axis in sorted(axes_of(call, axes, x.dim() + count) or []):
        x = x.unsqueeze(axis)
    return x


def expand(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """Both sides broadcast."""
    return x.expand(torch.broadcast_shapes(x.shape, sizes(shape)))


def constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    """One number everywhere."""
    value = call.attributes.get("value")
    if not isinstance(value, torch.Tensor):
        return torch.zeros(sizes(shape), dtype=call.dtype(1), device=call.device)
    device = call.device if value.is_floating_point() else shape.device
    return torch.full(sizes(shape), value.reshape(-1)[0].item(), dtype=value.dtype, device=device)


def tile(call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    """Several times along each axis."""
    return x.repeat(sizes(repeats)) if x.dim() else x


def pad(
    call: Call, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """More slots before and behind each axis, or fewer; by a number or by what is there."""
    amounts = (call.integers("pads") or []) if pads is None else sizes(pads)
    chosen = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in sizes(axes)]
    before, behind = [0] * x.dim(), [0] * x.dim()
    for at, axis in enumerate(chosen):
        before[axis], behind[axis] = amounts[at], amounts[at + len(chosen)]
    mode = call.text("mode", "constant")
    if mode == "constant" and value is not None and value.requires_grad:
        inside = _filled(torch.ones_like(x, dtype=torch.bool), before, behind, 0)
        return torch.where(inside, _filled(x, before, behind, 0), value)
    if mode == "constant":
        fill = call.real("value") if value is None or not value.numel() else number(value)
        return _filled(x, before, behind, fill)
    for axis, (first, last) in enumerate(zip(before, behind, strict=True)):
        if first or last:
            x = _mirrored(x, axis, first, last, mode)
    return x


def _filled(x: Tensor, before: Sequence[int], behind: Sequence[int], fill: float | int) -> Tensor:
    flat = [each for pair in zip(reversed(before), reversed(behind), strict=True) for each in pair]
    if x.dtype == torch.bool:
        return F.pad(x.to(torch.uint8), flat, value=int(fill)).to(torch.bool)
    return F.pad(x, flat, value=fill)


def _mirrored(x: Tensor, axis: int, before: int, behind: int, mode: str) -> Tensor:
    size = x.shape[axis]
    index = np.arange(size)[max(0, -before) : size - max(0, -behind)]
    index = np.pad(index, (max(0, before), max(0, behind)), mode=mode)  # type: ignore[call-overload]
    return x.index_select(axis, torch.from_numpy(index).to(x.device))


def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Blocks of channels become blocks of pixels."""
    b, (n, c, h, w) = call.integer("blocksize"), x.shape
    if call.text("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """Blocks of pixels become blocks of channels."""
    b, (n, c, h, w) = call.integer("blocksize"), x.shape
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b**2, h // b, w // b)


def centre(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """Cuts off, or adds zeros, around the centre."""
    wanted = sizes(shape)
    axes = call.integers("axes") or list(range(x.dim()))
    before, behind = [0] * x.dim(), [0] * x.dim()
    for axis, size in zip(axes, wanted, strict=True):
        spare = size - x.shape[axis]
        first = -((-spare) // 2) if spare < 0 else spare // 2
        before[axis], behind[axis] = first, spare - first
    return _filled(x, before, behind, 0)


def columns_to_image(call: Call, x: Tensor, image: Tensor, block: Tensor) -> Tensor:
    """The sum of blocks at their places."""
    wanted, kernel = sizes(image), sizes(block)
    rank = len(kernel)
    strides, dilations = call.integers("strides") or [1] * rank, call.integers("dilations") or [1] * rank
    pads = call.integers("pads") or [0] * 2 * rank
    grown = [n + pads[axis] + pads[axis + rank] for axis, n in enumerate(wanted)]
    counts = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(grown, kernel, dilations, strides, strict=True)
    ]
    parts = x.reshape(x.shape[0], -1, int(np.prod(kernel)), *counts)
    out = x.new_zeros(x.shape[0], parts.shape[1], *grown)
    for at, tap in enumerate(np.ndindex(*kernel)):
        places = (
            slice(t * d, t * d + (c - 1) * s + 1, s)
            for t, d, c, s in zip(tap, dilations, counts, strides, strict=True)
        )
        out[(slice(None), slice(None), *places)] += parts[:, :, at]
    return out[(slice(None), slice(None), *(slice(p, p + n) for p, n in zip(pads, wanted, strict=False)))]


ROWS: dict[str, Callable[..., object]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "ConstantOfShape": constant_of_shape,
    "Tile": tile,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "CenterCropPad": centre,
    "Col2Im": columns_to_image,
}
ONE = ("Reshape", "Squeeze", "Unsqueeze", "Expand", "Tile", "CenterCropPad")
HOST: dict[str, tuple[int, ...]] = dict.fromkeys(ONE, (1,))
HOST |= {"ConstantOfShape": (0,), "Pad": (1, 2, 3), "Col2Im": (1, 2)}
