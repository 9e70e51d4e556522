"""Lets a torchvision wheel built for CUDA import beside a CPU torch."""

from __future__ import annotations

import functools
from typing import Any

import torch


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: keep the best box, drop what overlaps it, repeat."""
    order = scores.argsort(descending=True)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[torch.Tensor] = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[order, :2], boxes[best, :2])
        high = torch.minimum(boxes[order, 2:], boxes[best, 2:])
        overlap = (high - low).clamp(0).prod(1)
        order = order[overlap <= iou_threshold * (area[order] + area[best] - overlap)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


def _roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    scale: float,
    height: int,
    width: int,
    sampling: int,
    aligned: bool,
) -> torch.Tensor:
    """Torchvision's own Python fallback, behind the operator's name."""
    from torchvision.ops import roi_align

    return roi_align._roi_align(features, rois, scale, height, width, sampling, aligned)  # type: ignore[no-any-return]


def _has_ops() -> bool:  # not a lambda: TorchScript compiles it with the detectors
    return True


@functools.cache
def install() -> Any:
    """Defines the operators that torchvision looks up at import; call before importing torchvision or timm.

    Returns:
        The operator library, which has to stay alive as long as the operators are used (the cache keeps it).
    """
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )
    library.impl("nms", _nms, "CPU")
    library.impl("roi_align", _roi_align, "CPU")
    import torchvision

    torchvision.extension._has_ops = _has_ops
    return library
