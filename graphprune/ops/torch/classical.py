"""Classical operators that a gradient passes through."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphprune.ops.torch.call import Call, Tensor
from graphprune.ops.torch.select import positions


def _numbers(call: Call, name: str, like: Tensor) -> Tensor:
    value = call.attributes.get(name, ())
    assert isinstance(value, tuple)
    return torch.tensor(value, dtype=like.dtype, device=like.device)


def scaler(call: Call, x: Tensor) -> Tensor:
    """The difference to an offset, times a scale."""
    x = x.to(call.dtype(1))
    return (x - _numbers(call, "offset", x)) * _numbers(call, "scale", x)


def normaliser(call: Call, x: Tensor) -> Tensor:
    """Rows divided by their norm; zero stays zero."""
    x = x.to(call.dtype(1))
    order = {"L1": 1, "L2": 2}.get(call.text("norm", "MAX"))
    norm = x.amax(-1, keepdim=True) if order is None else torch.linalg.vector_norm(x, order, -1, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def linear_regressor(call: Call, x: Tensor) -> Tensor:
    """A product with coefficients, and intercepts."""
    if call.text("post_transform", "NONE") != "NONE":
        raise call.refuse("what transforms its result is not written out")
    x = x.to(call.dtype(1))
    weight = _numbers(call, "coefficients", x).reshape(call.integer("targets", 1), -1)
    out = x @ weight.mT
    return out + _numbers(call, "intercepts", x) if "intercepts" in call.attributes else out


def features(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """Slots of the last axis."""
    found = x.index_select(-1, positions(index, x.shape[-1]).reshape(-1))
    return found.reshape(1, -1) if x.dim() == 1 else found


ROWS: dict[str, Callable[..., object]] = {
    "ai.onnx.ml:Scaler": scaler,
    "ai.onnx.ml:Normalizer": normaliser,
    "ai.onnx.ml:LinearRegressor": linear_regressor,
    "ai.onnx.ml:ArrayFeatureExtractor": features,
}
HOST: dict[str, tuple[int, ...]] = {}
