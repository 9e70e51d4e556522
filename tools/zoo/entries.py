"""What the zoo holds: one row per graph, and the names of the first 24."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
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


CORE = (
    "alexnet",
    "vgg16_bn",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "googlenet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "repvgg_a0",
    "dla34",
    "hrnet_w18_small",
    "ghostnet_100",
    "mixer_s16",
    "pvt_v2_b0",
    "deit_tiny",
    "cspdarknet53",
    "mobilevit_s",
)


def entries(pattern: str = "*") -> Sequence[Entry]:
    """The rows whose name matches a glob (`core` stands for the first 24), in table order.

    Raises:
        LookupError: nothing matches.
    """
    from tools.zoo import foreign, language, vision

    rows = (*vision.ENTRIES, *language.ENTRIES, *foreign.ENTRIES)
    chosen = [
        row for row in rows if (row.name in CORE if pattern == "core" else fnmatch.fnmatch(row.name, pattern))
    ]
    if not chosen:
        raise LookupError(
            f"no entry of the zoo matches '{pattern}' (names are in the Model column of docs/coverage.md)"
        )
    return chosen
