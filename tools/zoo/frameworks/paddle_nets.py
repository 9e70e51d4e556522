"""Paddle networks through paddle2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.zoo.frameworks.written import SEED, Written, normal


def _transformer(paddle: Any) -> Any:
    layer = paddle.nn.TransformerEncoderLayer(64, 4, 128, normalize_before=True)
    return paddle.nn.Sequential(
        paddle.nn.TransformerEncoder(layer, 2), paddle.nn.Flatten(), paddle.nn.Linear(64 * 16, 10)
    )


NETS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "lenet": (lambda paddle: paddle.vision.models.LeNet(), (2, 1, 28, 28)),
    "resnet18": (lambda paddle: paddle.vision.models.resnet18(num_classes=10), (2, 3, 64, 64)),
    "mobilenet_v2": (
        lambda paddle: paddle.vision.models.mobilenet_v2(scale=0.5, num_classes=10),
        (2, 3, 64, 64),
    ),
    "mobilenet_v3_small": (
        lambda paddle: paddle.vision.models.mobilenet_v3_small(num_classes=10),
        (2, 3, 64, 64),
    ),
    "transformer": (_transformer, (2, 16, 64)),
}


def write(model: str, path: Path) -> Written:
    """Builds one of `NETS` with random weights and exports it, batch dynamic."""
    import paddle

    paddle.seed(SEED)
    build, shape = NETS[model]
    net = build(paddle)
    net.eval()
    inputs = normal(*shape)
    expected = np.asarray(net(paddle.to_tensor(inputs)).numpy())
    spec = paddle.static.InputSpec([None, *shape[1:]], "float32", "x")
    paddle.onnx.export(net, str(path.with_suffix("")), input_spec=[spec], opset_version=17)
    return Written((inputs,), expected)
