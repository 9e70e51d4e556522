"""One row of the zoo: where a module comes from and how it becomes ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Library = Literal[
    "torchvision",
    "timm",
    "transformers",
    "sklearn",
    "keras-torch",
    "keras-tensorflow",
    "jax",
    "paddle",
    "trained",
]
Exporter = Literal[
    "torchscript", "dynamo", "native", "skl2onnx", "keras", "tf2onnx", "jax2onnx", "paddle2onnx", "publisher"
]
Inputs = Literal[
    "image",
    "video",
    "detection",
    "flow",
    "text",
    "causal",
    "cached",
    "seq2seq",
    "pixels",
    "waveform",
    "mel",
    "image-text",
    "other",
]


@dataclass(frozen=True)
class Entry:
    """One exported graph: where the module comes from and how it becomes ONNX.

    Attributes:
        name: file stem and row key.
        library: source library.
        model: factory name (torchvision, timm) or model class (transformers).
        exporter: `torchscript` and `dynamo` are torch's, `native` is transformers' own; the others are
            converters of other frameworks, and `publisher` is whatever the model's maker used.
        opset: ONNX opset asked of the exporter; 0 where it is the publisher's choice.
        inputs: which example inputs the module takes.
        size: side of a square image, where there is one.
        options: keyword arguments of the factory, or of the transformers config.
        single: whether two samples at once would need more memory than a small machine has.
    """

    name: str
    library: Library
    model: str
    exporter: Exporter = "torchscript"
    opset: int = 17
    inputs: Inputs = "image"
    size: int = 224
    options: Mapping[str, Any] = field(default_factory=dict)
    single: bool = False
