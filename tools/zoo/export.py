"""Exports one row to ONNX and checks the file against torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.zoo.build import Built, build, cache
from tools.zoo.entry import Entry
from tools.zoo.outcome import TOLERANCE, Export, ExportMismatchError


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _torchscript(entry: Entry, built: Built, outputs: tuple[torch.Tensor, ...], path: Path) -> None:
    names = _output_names(len(outputs))
    axes: dict[str, dict[int, str]] = {name: dict(dims) for name, dims in built.example.axes.items()}
    if axes:
        axes.update({name: {0: "batch"} for name in names})
    for name, output in zip(names[1:], outputs[1:], strict=True):
        if entry.inputs == "cached" and output.dim() == 4:
            axes[name][2] = "present_sequence"
    torch.onnx.export(
        built.module,
        tuple(built.example.tensors.values()),
        str(path),
        opset_version=entry.opset,
        dynamo=False,
        input_names=list(built.example.tensors),
        output_names=names,
        dynamic_axes=axes,
    )


def _dynamo(entry: Entry, built: Built, outputs: tuple[torch.Tensor, ...], path: Path) -> None:
    dims: dict[str, torch.export.Dim] = {}
    shapes = tuple(
        {
            axis: dims.setdefault(name, torch.export.Dim(name, min=1, max=4096))
            for axis, name in built.example.axes[key].items()
        }
        for key in built.example.tensors
    )
    variadic = entry.library == "transformers" or entry.library == "torchvision"
    torch.onnx.export(
        built.module,
        tuple(built.example.tensors.values()),
        str(path),
        opset_version=entry.opset,
        dynamo=True,
        input_names=list(built.example.tensors),
        output_names=_output_names(len(outputs)),
        dynamic_shapes=(shapes,) if variadic else shapes,
        external_data=False,
        verbose=False,
    )


def _native(entry: Entry, built: Built, outputs: tuple[torch.Tensor, ...], path: Path) -> None:
    import onnx_ir as ir
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    inputs: dict[str, Any] = {k: v for k, v in built.example.tensors.items() if not k.startswith("past_")}
    past = [tensor for name, tensor in built.example.tensors.items() if name.startswith("past_")]
    if past:
        inputs["past_key_values"] = cache([tensor.clone() for tensor in past])
    exporter: Any = OnnxExporter()  # type: ignore[no-untyped-call]
    exported = exporter.export(
        built.source, inputs, config=OnnxConfig(dynamic=True, opset_version=entry.opset)
    )
    ir.save(exported.program, str(path))


_EXPORTERS = {"torchscript": _torchscript, "dynamo": _dynamo, "native": _native}


def _compare(
    entry: Entry, built: Built, outputs: tuple[torch.Tensor, ...], path: Path
) -> tuple[float, float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tensors = [tensor.numpy() for tensor in built.example.tensors.values()]
    # By position: the native exporter renames cache inputs, and every exporter may drop an unused one.
    by_name = dict(zip(built.example.tensors, tensors, strict=True))
    wanted = [item.name for item in session.get_inputs()]
    if not set(wanted) <= set(by_name):
        by_name = dict(zip(wanted, tensors, strict=True))
    results = session.run(None, {name: by_name[name] for name in wanted})
    expected = outputs[0].numpy()
    actual = next((item for item in results if np.shape(item) == expected.shape), None)
    if actual is None:
        raise ExportMismatchError(f"no output has shape {list(expected.shape)}")
    scale = float(np.abs(expected).max()) or 1.0
    batched = expected.shape[0] == 2 and bool(built.example.axes)
    spread = (
        float(np.abs(expected[0] - expected[1]).max()) / scale if batched else float(expected.std()) / scale
    )
    return float(np.abs(expected - actual).max()) / scale, spread


def export(entry: Entry, path: Path) -> Export:
    """Writes the row's ONNX file, or raises and leaves none.

    Raises:
        ExportMismatchError: the file runs but disagrees with torch.
        Exception: whatever the exporter raised.
    """
    start = time.process_time()
    built = build(entry)
    temporary = path.with_name(f".{path.stem}.tmp.onnx")
    try:
        with torch.no_grad():
            outputs = _tuple(built.module(*built.example.tensors.values()))
            _EXPORTERS[entry.exporter](entry, built, outputs, temporary)
        error, spread = _compare(entry, built, outputs, temporary)
        if not error < TOLERANCE:
            raise ExportMismatchError(f"differs from torch by {error:.1e} of the largest output")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Export(error, spread, path.stat().st_size / 1e6, time.process_time() - start)
