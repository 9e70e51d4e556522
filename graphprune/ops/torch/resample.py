"""Operators that sample a picture between its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from graphprune.ir.arrays import Doubles, Singles
from graphprune.ops.torch.call import Call, Tensor, sizes
from graphprune.ops.torch.linear import padding, windows


@dataclass(frozen=True)
class Line:
    """How one axis is resampled.

    Attributes:
        size: before.
        out: after.
        scale: their quotient as the node says it.
        mode: nearest, linear or cubic.
        place: where a pixel of the result lies, by ONNX's name.
        nearest: how a place is rounded.
        a: of the cubic kernel.
        inside: whether pixels that are not there get no weight.
        smooth: whether the kernel widens as the picture shrinks.
        start, end: the part that tf_crop_and_resize takes.
    """

    size: int
    out: int
    scale: float
    mode: str
    place: str
    nearest: str
    a: float
    inside: bool
    smooth: bool
    start: float = 0.0
    end: float = 1.0

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return self.size == self.out and self.scale == 1.0 and self.place != "tf_crop_and_resize"


def _places(line: Line) -> Singles:
    """Where each pixel of the result lies in the source; in single precision, as ONNX Runtime computes it."""
    at, size, out = np.arange(line.out, dtype=np.float32), np.float32(line.size), np.float32(line.out)
    scale = np.float32(line.scale)
    half = np.float32(0.5)
    centred = (at + half) / scale - half
    if line.place in ("half_pixel", "pytorch_half_pixel"):
        return np.zeros_like(at) if line.place[0] == "p" and line.out == 1 else centred
    if line.place == "half_pixel_symmetric":
        return np.asarray(size / 2 * (1 - out / (scale * size)) + centred)
    if line.place == "align_corners":
        return np.zeros_like(at) if line.out == 1 else np.asarray(at * (size - 1) / (out - 1))
    if line.place == "tf_half_pixel_for_nn":
        return np.asarray((at + half) / scale)
    if line.place == "tf_crop_and_resize":
        start, end = np.float32(line.start), np.float32(line.end)
        if line.out == 1:
            return np.full_like(at, half * (start + end) * (size - 1))
        return np.asarray(start * (size - 1) + at * ((end - start) * (size - 1) / (out - 1)))
    return np.asarray(at / scale)


ROUNDINGS: dict[str, Callable[[Singles, float], Singles]] = {
    "round_prefer_floor": lambda x, scale: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x, scale: np.floor(x + np.float32(0.5)),
    "floor": lambda x, scale: np.floor(x),
    "ceil": lambda x, scale: np.ceil(x),
    "simple": lambda x, scale: np.ceil(x) if scale < 1 else np.floor(x),
}


@lru_cache(maxsize=256)
def _picked(line: Line) -> tuple[int, ...]:
    found = ROUNDINGS[line.nearest](_places(line), line.scale)
    return tuple(int(i) for i in np.clip(found, 0, line.size - 1))


def _kernel(x: Doubles, line: Line) -> Doubles:
    """The weight of a pixel that lies x away."""
    x = np.abs(x)
    if line.mode == "linear":
        return np.maximum(1 - x, 0)
    near = ((line.a + 2) * x - (line.a + 3)) * x * x + 1
    far = ((line.a * x - 5 * line.a) * x + 8 * line.a) * x - 4 * line.a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


@lru_cache(maxsize=256)
def _weights(line: Line) -> Doubles:
    """[out, size]: what each pixel of the result takes of each of the source."""
    places, wide = _places(line).astype(np.float64), max(1.0, 1 / line.scale) if line.smooth else 1.0
    if line.mode == "linear" and not line.smooth:
        places = np.clip(places, 0, line.size - 1)
    reach = math.ceil(wide if line.mode == "linear" else 2 * wide)
    matrix, rows = np.zeros((line.out, line.size)), np.arange(line.out)
    first = np.floor(places).astype(np.int64)
    for step in range(1 - reach, reach + 1):
        index = first + step
        weight = _kernel((index - places) / wide, line)
        if line.inside:
            weight = np.where((index >= 0) & (index < line.size), weight, 0)
        np.add.at(matrix, (rows, np.clip(index, 0, line.size - 1)), weight)
    return matrix / matrix.sum(1, keepdims=True) if line.inside or line.smooth else matrix


def resize(
    call: Call, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Axis by axis."""
    if call.opset < 11:
        roi, scales = None, roi
    axes = call.integers("axes") or list(range(x.dim()))
    lines = {
        axis % x.dim(): line for axis, line in zip(axes, _lines(call, x, axes, roi, scales, out), strict=True)
    }
    moving = {axis: line for axis, line in lines.items() if not line.same}
    done = _by_torch(x, moving)
    if done is None:
        done = x
        for axis, line in moving.items():
            done = _along(done, axis, line)
    return _extrapolated(call, done, moving)


def upsample(call: Call, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """As Resize before opset 11."""
    given = call.attributes.get("scales")
    if scales is None and isinstance(given, tuple):
        scales = torch.tensor(given)
    return resize(call, x, scales)


def _lines(
    call: Call,
    x: Tensor,
    axes: Sequence[int],
    roi: Tensor | None,
    scales: Tensor | None,
    out: Tensor | None,
) -> list[Line]:
    size, old = [x.shape[axis] for axis in axes], call.opset < 11
    if out is not None and out.numel():
        after = sizes(out)
        factors = [m / n for m, n in zip(after, size, strict=True)]
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factors = [min(factors) if policy == "not_larger" else max(factors)] * len(factors)
            after = [math.floor(n * factors[0] + 0.5) for n in size]
    else:
        assert scales is not None
        factors = [float(factor) for factor in scales.tolist()]
        after = [math.floor(n * factor) for n, factor in zip(size, factors, strict=True)]
    place = call.text("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    part = roi.tolist() if roi is not None and roi.numel() else [0.0] * len(size) + [1.0] * len(size)
    mode = call.text("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    return [
        Line(
            n,
            m,
            factor,
            mode,
            place,
            call.text("nearest_mode", "simple" if old else "round_prefer_floor"),
            call.real("cubic_coeff_a", -0.75),
            bool(call.integer("exclude_outside")),
            bool(call.integer("antialias")) and factor < 1,
            *(part[at], part[at + len(size)]),
        )
        for at, (n, m, factor) in enumerate(zip(size, after, factors, strict=True))
    ]


BY_TORCH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _by_torch(x: Tensor, lines: dict[int, Line]) -> Tensor | None:
    """One call of torch's own, where it computes the same; None elsewhere."""
    rank = x.dim() - 2
    if not lines or not 1 <= rank <= 3 or min(lines) < 2 or 0 in x.shape:
        return None
    after = [lines[axis].out if axis in lines else n for axis, n in enumerate(x.shape)][2:]
    if all(line.mode == "nearest" for line in lines.values()):
        plain = (_picked(n) == tuple(i * n.size // n.out for i in range(n.out)) for n in lines.values())
        return F.interpolate(x, after) if all(plain) else None
    exact = all(
        n.mode == "linear" and not n.smooth and abs(n.scale - n.out / n.size) < 1e-6 for n in lines.values()
    )
    places = {
        "half_pixel" if n.place == "pytorch_half_pixel" and n.out > 1 else n.place for n in lines.values()
    }
    if not exact or len(places) > 1 or not places <= {"half_pixel", "align_corners"}:
        return None
    return F.interpolate(x, after, mode=BY_TORCH[rank], align_corners=places == {"align_corners"})


def _along(x: Tensor, axis: int, line: Line) -> Tensor:
    if line.mode == "nearest":
        return x.index_select(axis, torch.tensor(_picked(line), device=x.device))
    kind = x.dtype if x.is_floating_point() else torch.float32
    matrix = torch.from_numpy(_weights(line)).to(x.device, kind)
    moved = (x.to(kind).movedim(axis, -1) @ matrix.mT).movedim(-1, axis)
    return moved if kind == x.dtype else moved.to(x.dtype)


def _extrapolated(call: Call, x: Tensor, lines: dict[int, Line]) -> Tensor:
    for axis, line in lines.items():
        if line.place == "tf_crop_and_resize":
            places = _places(line)
            outside = torch.from_numpy((places < 0) | (places > line.size - 1)).to(x.device)
            shape = [1] * x.dim()
            shape[axis] = -1
            x = torch.where(outside.reshape(shape), call.real("extrapolation_value"), x)
    return x


def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """Pixels at given places."""
    mode = call.text("mode", "bilinear" if call.opset < 20 else "linear")
    names = {"linear": "bilinear", "cubic": "bicubic"}
    where = call.text("padding_mode", "zeros")
    return F.grid_sample(x, grid, names.get(mode, mode), where, bool(call.integer("align_corners")))


def affine_grid(call: Call, theta: Tensor, size: Tensor) -> Tensor:
    """Places of an affine map."""
    return F.affine_grid(theta, sizes(size), bool(call.integer("align_corners")))


def _line_weights(start: Tensor, step: Tensor, out: int, samples: int, size: int) -> Tensor:
    """[out, size]: the mean over `samples` places in each of `out` bins, linear between pixels."""
    at = torch.arange(out * samples, device=start.device, dtype=start.dtype)
    places = start + (at + 0.5) * (step / samples)
    valid = (places >= -1) & (places <= size)
    places = places.clamp(min=0)
    low = places.detach().floor().clamp(max=size - 1)
    part = torch.where(low >= size - 1, torch.zeros_like(places), places - low)
    below = low.long()
    above = (below + 1).clamp(max=size - 1)
    rows = torch.arange(out, device=start.device).repeat_interleave(samples)
    share = valid.to(start.dtype) / samples
    matrix = start.new_zeros(out, size).index_put((rows, below), (1 - part) * share, accumulate=True)
    return matrix.index_put((rows, above), part * share, accumulate=True)


def roi_align(call: Call, x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """Means over regions that need not begin at a pixel: a product of two matrices per region."""
    if call.text("mode", "avg") != "avg":
        raise call.refuse("RoiAlign takes means here, no maxima")
    rows, columns, wanted = (
        call.integer("output_height", 1),
        call.integer("output_width", 1),
        call.integer("sampling_ratio"),
    )
    half = call.text(
        "coordinate_transformation_mode", "half_pixel" if call.opset >= 16 else "output_half_pixel"
    )
    scaled = rois * call.real("spatial_scale", 1.0) - (0.5 if half == "half_pixel" else 0.0)
    out = []
    for box, number in zip(scaled, batch.tolist(), strict=True):
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        if half != "half_pixel":
            width, height = width.clamp(min=1.0), height.clamp(min=1.0)
        matrices = []
        for start, span, bins, size in ((top, height, rows, x.shape[2]), (left, width, columns, x.shape[3])):
            samples = wanted or max(1, math.ceil(float(span) / bins))
            matrices.append(_line_weights(start, span / bins, bins, samples, size))
        out.append(matrices[0] @ x[number] @ matrices[1].mT)
    return torch.stack(out) if out else x.new_zeros(0, x.shape[1], rows, columns)


def max_roi_pool(call: Call, x: Tensor, rois: Tensor) -> Tensor:
    """Maxima over regions of whole pixels."""
    rows, columns = call.integers("pooled_shape") or (1, 1)
    out = []
    for roi in rois.tolist():
        left, top, right, bottom = (math.floor(v * call.real("spatial_scale", 1.0) + 0.5) for v in roi[1:])
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        cells = []
        for row in range(rows):
            for column in range(columns):
                y = _bin(top, height, rows, row, x.shape[2])
                part = x[int(roi[0]), :, y, _bin(left, width, columns, column, x.shape[3])]
                cells.append(part.amax((1, 2)) if part.numel() else x.new_zeros(x.shape[1]))
        out.append(torch.stack(cells, 1).reshape(-1, rows, columns))
    return torch.stack(out) if out else x.new_zeros(0, x.shape[1], rows, columns)


def _bin(start: int, span: int, bins: int, at: int, size: int) -> slice:
    first, last = math.floor(at * span / bins) + start, math.ceil((at + 1) * span / bins) + start
    return slice(min(max(first, 0), size), min(max(last, 0), size))


def deform_conv(
    call: Call, x: Tensor, w: Tensor, offset: Tensor, b: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """A convolution whose windows read where the offsets say."""
    if x.dim() != 4:
        raise call.refuse("it is deformed over two axes only")
    (count, channels, height, width), kernel = x.shape, w.shape[2:]
    strides, dilations, _ = windows(call, 2, kernel)
    pads = padding(call, x.shape[2:], kernel, strides, dilations)
    groups, parts, taps = call.integer("group", 1), call.integer("offset_group", 1), math.prod(kernel)
    rows, columns = offset.shape[2:]
    moved = offset.reshape(count, parts, taps, 2, rows, columns)
    places = []
    for axis, (size, n) in enumerate(((height, rows), (width, columns))):
        first = torch.arange(n, device=x.device) * strides[axis] - pads[axis][0]
        tap = torch.arange(kernel[axis], device=x.device) * dilations[axis]
        tap = tap.repeat_interleave(kernel[1]) if axis == 0 else tap.repeat(kernel[0])
        first = first.reshape((-1, 1) if axis == 0 else (1, -1))
        at = moved[:, :, :, axis] + (tap.reshape(-1, 1, 1) + first).to(x.dtype)
        places.append((at + 0.5) * 2 / size - 1)
    grid = torch.stack(places[::-1], -1).reshape(count * parts, taps * rows, columns, 2)
    source = x.reshape(count * parts, channels // parts, height, width)
    read = F.grid_sample(source, grid, "bilinear", "zeros", False)
    read = read.reshape(count, parts, channels // parts, taps, rows, columns)
    if mask is not None:
        read = read * mask.reshape(count, parts, 1, taps, rows, columns)
    read = read.reshape(count, groups, channels // groups * taps, rows * columns)
    out = w.reshape(groups, len(w) // groups, -1) @ read
    out = out.reshape(count, len(w), rows, columns)
    return out if b is None else out + b.reshape(-1, 1, 1)


ROWS: dict[str, Callable[..., object]] = {
    "Resize": resize,
    "Upsample": upsample,
    "GridSample": grid_sample,
    "com.microsoft:GridSample": grid_sample,
    "AffineGrid": affine_grid,
    "RoiAlign": roi_align,
    "MaxRoiPool": max_roi_pool,
    "DeformConv": deform_conv,
}
HOST = {"Resize": (1, 2, 3), "Upsample": (1,), "AffineGrid": (1,)}
