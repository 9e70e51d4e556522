"""Lets a torchvision wheel built for CUDA import beside a CPU torch."""

from __future__ import annotations

import functools
from typing import Any

import torch


def _nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression, the textbook loop."""
    order = scores.argsort(descending=True).tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for index in order:
        if not kept:
            kept.append(index)
            continue
        rest = boxes[kept]
        width = (
            torch.minimum(rest[:, 2], boxes[index, 2]) - torch.maximum(rest[:, 0], boxes[index, 0])
        ).clamp(0)
        height = (
            torch.minimum(rest[:, 3], boxes[index, 3]) - torch.maximum(rest[:, 1], boxes[index, 1])
        ).clamp(0)
        overlap = width * height
        if bool((overlap / (area[kept] + area[index] - overlap) <= iou_threshold).all()):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


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

    torchvision.extension._has_ops = lambda: True
    return library
