"""Reductions and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ops.torch.call import Call, Tensor, axes_of, sizes
from graphprune.ops.torch.linear import flat, padding, symmetric, windows

Reduction = Callable[[Tensor, list[int], bool], Tensor]
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def reduced(function: Reduction) -> Callable[..., Tensor]:
    """A reduction over axes from an attribute or input; over all where there are none."""

    def run(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = axes_of(call, axes, x.dim())
        if not chosen:
            if call.integer("noop_with_empty_axes"):
                return function(x.unsqueeze(0), [0], False)
            chosen = list(range(x.dim()))
        if not x.dim():
            return function(x.unsqueeze(0), [0], False)
        return function(x, chosen, bool(call.integer("keepdims", 1)))

    return run


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(x.sum(axes, keepdim=keep), count, rounding_mode="trunc").to(x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _extreme(largest: bool) -> Reduction:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return run(x.to(torch.uint8), axes, keep).to(torch.bool)
        if not math.prod(x.shape[axis] for axis in axes):
            return _sum(x, axes, keep) + _last(x.dtype, not largest)
        return torch.amax(x, axes, keepdim=keep) if largest else torch.amin(x, axes, keepdim=keep)

    return run


def _last(kind: torch.dtype, largest: bool) -> float | int:
    """What loses every comparison: the neutral element of the other extreme."""
    if kind.is_floating_point:
        return math.inf if largest else -math.inf
    limits = torch.iinfo(kind)
    return int(limits.max if largest else limits.min)


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x.abs(), axes, keep)


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not x.is_floating_point():
        return _l2(x.double(), axes, keep).to(x.dtype)
    return torch.linalg.vector_norm(x, 2, axes, keepdim=keep)


def _square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _in_floats(function: Reduction) -> Reduction:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        return function(x if x.is_floating_point() else x.double(), axes, keep).to(x.dtype)

    return run


def average_pool(call: Call, x: Tensor) -> Tensor:
    """Means of windows; of what lies outside, only padding that is asked for counts."""
    rank, kernel = x.dim() - 2, call.integers("kernel_shape") or []
    strides, dilations, _ = windows(call, rank, kernel)
    pads = padding(call, x.shape[2:], kernel, strides, dilations)
    inside = bool(call.integer("count_include_pad"))
    ceil = bool(call.integer("ceil_mode")) and call.text("auto_pad", "NOTSET") in ("", "NOTSET")
    small = _fits(x.shape[2:], pads, kernel, dilations)
    counts = _counts(x.shape[2:], pads, kernel, strides, dilations, ceil)
    if min(counts) <= 0:
        return x.new_zeros(*x.shape[:2], *(max(0, count) for count in counts))
    if symmetric(pads) and small and set(dilations) == {1}:
        return AVERAGE[rank](x, kernel, strides, [before for before, _ in pads], ceil, inside)
    total = _window_sum(x, pads, kernel, strides, dilations, ceil)
    ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    if inside:
        ones, pads = F.pad(ones, flat(pads), value=1.0), [(0, 0)] * rank
    return total / _window_sum(ones, pads, kernel, strides, dilations, ceil)


def _fits(
    size: Sequence[int], pads: Sequence[tuple[int, int]], kernel: Sequence[int], dilations: Sequence[int]
) -> bool:
    """Whether torch takes these pads, and no window is longer than the data."""
    rows = zip(size, pads, kernel, dilations, strict=True)
    return all(2 * b <= k and n + b + e > (k - 1) * d for n, (b, e), k, d in rows)


def _counts(
    size: Sequence[int],
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    ceil: bool,
) -> list[int]:
    """Windows per axis; as ONNX Runtime divides, towards zero, one that is longer than the data may count."""
    out = []
    for n, (before, behind), k, s, d in zip(size, pads, kernel, strides, dilations, strict=True):
        room = n + before + behind - (k - 1) * d - 1
        count = (-(-room // s) if ceil or room < 0 else room // s) + 1
        # a window that begins behind the data is none
        out.append(count - 1 if ceil and (count - 1) * s >= n + before else count)
    return out


def _beyond(
    size: Sequence[int],
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    ceil: bool,
) -> list[tuple[int, int]]:
    """Pads with what the last window reads beyond them where sizes are rounded up."""
    counts = _counts(size, pads, kernel, strides, dilations, ceil)
    rows = zip(size, pads, kernel, strides, dilations, counts, strict=True)
    return [
        (before, behind + max(0, (count - 1) * s + (k - 1) * d + 1 - n - before - behind))
        for n, (before, behind), k, s, d, count in rows
    ]


def _window_sum(
    x: Tensor,
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    ceil: bool,
) -> Tensor:
    x = F.pad(x, flat(_beyond(x.shape[2:], pads, kernel, strides, dilations, ceil)))
    return _windows_of(x, kernel, strides, dilations).sum(list(range(-len(kernel), 0)))


def _windows_of(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """[N, C, places, kernel]."""
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True), 2):
        x = x.unfold(axis, (k - 1) * d + 1, s)
        x = x[..., ::d]
    return x


def max_pool(call: Call, x: Tensor) -> tuple[Tensor, ...]:
    """The largest of every window, and where it lies in the whole input."""
    if not x.is_floating_point():
        y, *where = max_pool(call, x.float())
        return (y.to(x.dtype), *where)
    rank, kernel = x.dim() - 2, call.integers("kernel_shape") or []
    strides, dilations, _ = windows(call, rank, kernel)
    pads = padding(call, x.shape[2:], kernel, strides, dilations)
    ceil = bool(call.integer("ceil_mode")) and call.text("auto_pad", "NOTSET") in ("", "NOTSET")
    small = _fits(x.shape[2:], pads, kernel, dilations)
    counts = _counts(x.shape[2:], pads, kernel, strides, dilations, ceil)
    if min(counts) <= 0:
        empty = [*x.shape[:2], *(max(0, count) for count in counts)]
        return x.new_zeros(empty), x.new_zeros(empty, dtype=torch.int64)
    if symmetric(pads) and small and not call.wants(1) and rank in LARGEST:
        return (LARGEST[rank](x, kernel, strides, [before for before, _ in pads], dilations, ceil),)
    pads = _beyond(x.shape[2:], pads, kernel, strides, dilations, ceil)
    wide = F.pad(x, flat(pads), value=-math.inf)
    if not call.wants(1):
        return (LARGEST[rank](wide, kernel, strides, 0, dilations),)
    y, places = LARGEST[rank](wide, kernel, strides, 0, dilations, return_indices=True)
    return y, _in_whole(call, x, places, wide.shape[2:], [before for before, _ in pads])


def _in_whole(call: Call, x: Tensor, places: Tensor, wide: Sequence[int], before: Sequence[int]) -> Tensor:
    """Positions within padded planes as positions in the whole tensor."""
    size, out = list(x.shape[2:]), torch.zeros_like(places)
    coordinates: list[Tensor] = []
    for length, pad in zip(reversed(wide), reversed(before), strict=True):
        coordinates.insert(0, places % length - pad)
        places = places // length
    order = range(len(size) - 1, -1, -1) if call.integer("storage_order") else range(len(size))
    for axis in order:
        out = out * size[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * len(size))
    return out + planes * math.prod(size)


def lp_pool(call: Call, x: Tensor) -> Tensor:
    """Norms of windows."""
    kernel, p = call.integers("kernel_shape") or [], call.integer("p", 2)
    strides, dilations, _ = windows(call, len(kernel), kernel)
    pads = padding(call, x.shape[2:], kernel, strides, dilations)
    ceil = bool(call.integer("ceil_mode"))
    return _window_sum(x.abs().pow(p), pads, kernel, strides, dilations, ceil).pow(1 / p)


def _everywhere(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


def max_unpool(call: Call, x: Tensor, places: Tensor, shape: Tensor | None = None) -> Tensor:
    """Puts the largest back where they were; all else is zero."""
    kernel = call.integers("kernel_shape") or []
    strides, pads = (
        call.integers("strides") or [1] * len(kernel),
        call.integers("pads") or [0] * 2 * len(kernel),
    )
    small = [
        (n - 1) * s - before - behind + k
        for n, s, before, behind, k in zip(
            x.shape[2:], strides, pads[: len(kernel)], pads[len(kernel) :], kernel, strict=True
        )
    ]
    wanted = [*x.shape[:2], *small] if shape is None else sizes(shape)
    # as ONNX Runtime reads them, positions count in the result as it is asked for
    return x.new_zeros(math.prod(wanted)).scatter(0, places.flatten(), x.flatten()).reshape(wanted)


ROWS: dict[str, Callable[..., object]] = {
    "ReduceSum": reduced(_sum),
    "ReduceSumSquare": reduced(_square),
    "ReduceL1": reduced(_l1),
    "ReduceL2": reduced(_l2),
    "ReduceMean": reduced(_mean),
    "ReduceMax": reduced(_extreme(True)),
    "ReduceMin": reduced(_extreme(False)),
    "ReduceProd": reduced(_product),
    "ReduceLogSum": reduced(_in_floats(lambda x, axes, keep: _sum(x, axes, keep).log())),
    "ReduceLogSumExp": reduced(_in_floats(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep))),
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": lambda call, x: x.mean(_everywhere(x), keepdim=True),
    "GlobalMaxPool": lambda call, x: torch.amax(x, _everywhere(x), keepdim=True),
    "GlobalLpPool": lambda call, x: torch.linalg.vector_norm(
        x, call.integer("p", 2), _everywhere(x), keepdim=True
    ),
    "MaxUnpool": max_unpool,
}
HOST = {name: (1,) for name in ROWS if name.startswith("Reduce")} | {"MaxUnpool": (2,)}
