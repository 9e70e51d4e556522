"""Quantised files cut beside their float twins: ``python -m tools.quantised [NAME ...] [--page FILE]``.

Each workload is quantised: its weights alone, as a converter from TFLite leaves them; by ONNX Runtime
(static, per channel, between QuantizeLinear and DequantizeLinear or in QLinear operators; dynamic). Every
form is cut to a share of its multiply-adds and judged against itself, dense: its metric may drop by three
points more than that of the float twin.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import graphprune
from tools.command import ended
from tools.real_models.registry import workload_named
from tools.real_models.store import default_cache
from tools.real_models.workload import Workload

Form = Literal["float", "weights", "static", "qoperator", "dynamic"]
FORMS: tuple[Form, ...] = ("float", "weights", "static", "qoperator", "dynamic")
NAMES = ("digits-cnn", "magika", "ppocr-direction")
SAMPLES, ITEMS = 256, 500
PER_CHANNEL = 13
PRODUCTS = ["Conv", "Gemm", "MatMul"]
"""Quantised statically: of norms that are written out nothing is left in eight bits."""
BAR = 0.03
"""Most by which a metric may drop further than that of the float twin."""
PASSES = "obspa(macs={macs:g})"
HEAD = """# Quantised files

What a cut costs a quantised file, beside its float twin: the metric of each form, dense and after
`{passes}` with {samples} calibration samples, on {items} items at most, both in ONNX Runtime as it is.
In `weights` these alone are coded, eight bits with a scale per output behind a DequantizeLinear, as
converters from TFLite leave them. ONNX Runtime's quantiser makes the others: `static` between QuantizeLinear
and DequantizeLinear, `qoperator` in QLinear operators, both per channel with seven bits; `dynamic` with
products of integers. The last column is by how much more a form drops than the float twin; the bar is
{bar:g} points. Made by
`python -m tools.quantised --page docs/quantised.md`; the rows of a network that went through TFLite, its
weights or all of it in eight bits, by `python -m tools.tflite`.

| model | form | dense | cut | drop, points | MACs left | beyond float |
|---|---|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Row:
    """One form of one model."""

    model: str
    form: Form
    dense: float
    cut: float
    macs: float
    beyond: float = 0.0

    @property
    def drop(self) -> float:
        """By how much the metric falls."""
        return self.dense - self.cut

    def __str__(self) -> str:
        shown = f"{self.dense:.4f} | {self.cut:.4f} | {100 * self.drop:.1f} | {100 * self.macs:.1f} %"
        missed = ", missed" if self.beyond > BAR else ""
        beyond = "" if self.form == "float" else f"{100 * self.beyond:+.1f}{missed}"
        return f"| {self.model} | {self.form} | {shown} | {beyond} |"


class _Reader(CalibrationDataReader):
    """Samples one by one, as the quantiser asks for them."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        count = min(len(array) for array in arrays.values())
        self._feeds = iter([{n: a[at : at + 1] for n, a in arrays.items()} for at in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantised(dense: Path, form: Form, arrays: dict[str, np.ndarray], folder: Path) -> Path:
    """The model in a form."""
    if form == "float":
        return dense
    if form == "weights":
        return coded_weights(dense, folder / "weights.onnx")
    ready, target = folder / "ready.onnx", folder / f"{form}.onnx"
    quant_pre_process(str(dense), str(ready), skip_symbolic_shape=True)
    _flatten_biases(ready)
    if form == "dynamic":
        quantize_dynamic(str(ready), str(target), weight_type=QuantType.QUInt8)
    else:
        kind = QuantFormat.QDQ if form == "static" else QuantFormat.QOperator
        quantize_static(
            str(ready), str(target), _Reader(arrays), quant_format=kind, per_channel=True,
            reduce_range=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            op_types_to_quantize=PRODUCTS,
            extra_options={"QDQDisableWeightAdjustForInt32Bias": True},  # it fails on weights of products
        )  # fmt: skip
    return target


def _flatten_biases(path: Path) -> None:
    """Biases [1, n] of a Gemm as [n]: the quantiser gives them a scale per row, which runs only fused."""
    model = onnx.load(path)
    biases = {node.input[2] for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    for tensor in model.graph.initializer:
        if tensor.name in biases and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
    onnx.save(model, path)


def modern(source: Path, target: Path) -> Path:
    """The model at an opset whose DequantizeLinear takes a scale per channel."""
    model = onnx.load(source)
    if next(each.version for each in model.opset_import if not each.domain) >= PER_CHANNEL:
        return source
    onnx.save(onnx.version_converter.convert_version(model, PER_CHANNEL), target)
    return target


def coded_weights(dense: Path, target: Path) -> Path:
    """Weights of Conv, Gemm and MatMul in eight bits with a scale per output, decoded where they are read."""
    model = onnx.load(dense)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    decoders: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        name = node.input[1] if node.op_type in ("Conv", "Gemm", "MatMul") else ""
        if name not in held or held[name].data_type != onnx.TensorProto.FLOAT:
            continue
        if name not in decoders:
            rows = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
            decoders[name] = _coded(model.graph, held[name], 0 if rows else len(held[name].dims) - 1)
        node.input[1] = decoders[name].output[0]
    nodes = [*decoders.values(), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def _coded(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    array = onnx.numpy_helper.to_array(tensor)
    others = tuple(i for i in range(array.ndim) if i != axis)
    scale = (np.maximum(np.abs(array).max(axis=others, keepdims=True), 1e-12) / 127).astype(np.float32)
    name = tensor.name
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.rint(array / scale).astype(np.int8), name))
    graph.initializer.append(onnx.numpy_helper.from_array(scale.ravel(), f"{name}_scale"))
    inputs, out = [name, f"{name}_scale"], [f"{name}_decoded"]
    return onnx.helper.make_node("DequantizeLinear", inputs, out, axis=axis)


def measured(workload: Workload, macs: float, forms: Sequence[Form], items: int) -> Iterator[Row]:
    """These forms of a workload."""
    arrays = {name: np.asarray(array) for name, array in workload.calibration(SAMPLES).items()}
    twin = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = modern(workload.fetch(default_cache()), folder / "modern.onnx")
        for form in forms:
            model = quantised(source, form, arrays, folder)
            small = folder / f"{form}.small.onnx"
            result = graphprune.compile(
                model, PASSES.format(macs=macs), small, calibration=arrays, bench=False
            )
            before, after = (
                next(iter(workload.evaluate(each, items).metrics.values())) for each in (model, small)
            )
            report = result.report
            row = Row(workload.name, form, before, after, report.after.macs / max(1, report.before.macs))
            twin = row.drop if form == "float" else twin
            yield replace(row, beyond=row.drop - twin)


def main() -> None:
    """Measures, prints, and writes the page if one is named."""
    parser = argparse.ArgumentParser(prog="python -m tools.quantised", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="workloads of tools.real_models")
    parser.add_argument("--macs", type=float, default=0.5, help="share of the multiply-adds that stays")
    parser.add_argument("--forms", nargs="*", default=FORMS, choices=FORMS, help="what is measured")
    parser.add_argument("--items", type=int, default=ITEMS, help="most items that a metric looks at")
    parser.add_argument("--page", type=Path, help="file for the table")
    options = parser.parse_args()
    rows = []
    for name in options.names:
        for row in measured(workload_named(name), options.macs, options.forms, options.items):
            print(row, flush=True)
            rows.append(row)
    if options.page is not None:
        head = HEAD.format(
            passes=PASSES.format(macs=options.macs), samples=SAMPLES, items=options.items, bar=100 * BAR
        )
        options.page.write_text(head + "\n".join(merged(options.page, [*map(str, rows)])) + "\n")


def merged(page: Path, rows: Sequence[str]) -> list[str]:
    """The rows, and those of the page about models that were not measured now; by model."""
    now = {_model(row) for row in rows}
    old = page.read_text().split("|---|")[-1].splitlines()[1:] if page.is_file() else []
    return sorted([*rows, *(row for row in old if _model(row) not in now)], key=_model)


def _model(row: str) -> str:
    return row.split("|")[1].strip()


if __name__ == "__main__":
    sys.exit(ended(main))
