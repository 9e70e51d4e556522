"""PyTorch modules to ONNX files, through either of torch's exporters."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def scripted(net: nn.Module, example: Tensor, target: Path, names: tuple[str, str]) -> None:
    """The TorchScript exporter, opset 17, with a dynamic batch; `names` are the input's and the output's."""
    torch.onnx.export(
        net,
        (example,),
        str(target),
        dynamo=False,
        opset_version=17,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes={name: {0: "batch"} for name in names},
    )


def captured(net: nn.Module, example: Tensor, target: Path, names: tuple[str, str]) -> None:
    """The torch.export exporter in its default opset, with a dynamic batch and embedded weights."""
    torch.onnx.export(
        net,
        (example,),
        str(target),
        dynamo=True,
        external_data=False,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
