"""Quantised files cut beside their float twins: ``python -m tools.quantised [NAME ...] [--page FILE]``.

Each workload is quantised by ONNX Runtime (static, per channel, between QuantizeLinear and DequantizeLinear
or in QLinear operators; dynamic), and every form is cut to a share of its multiply-adds. A form is judged
against itself, dense: its metric may drop by three points more than that of the float twin.
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
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import graphprune
from tools.real_models.registry import workload_named
from tools.real_models.store import default_cache
from tools.real_models.workload import Workload

Form = Literal["float", "static", "qoperator", "dynamic"]
FORMS: tuple[Form, ...] = ("float", "static", "qoperator", "dynamic")
NAMES = ("digits-cnn", "keras-cnn", "magika", "ppocr-direction")
SAMPLES, ITEMS = 256, 500
BAR = 0.03
"""Most by which a metric may drop further than that of the float twin."""
PASSES = "obspa(macs={macs:g})"
HEAD = """# Quantised files

What a cut costs a quantised file, beside its float twin: the metric of each form, dense and after
`{passes}` with {samples} calibration samples, on {items} items at most, both in ONNX Runtime as it is.
Forms are made by ONNX Runtime's quantiser: `static` between QuantizeLinear and DequantizeLinear, `qoperator`
in QLinear operators, both per channel with seven bits; `dynamic` with products of integers. The last column
is by how much more a form drops than the float twin; the bar is {bar:g} points. Made by
`python -m tools.quantised --page docs/quantised.md`.

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
    ready, target = folder / "ready.onnx", folder / f"{form}.onnx"
    quant_pre_process(str(dense), str(ready), skip_symbolic_shape=True)
    if form == "dynamic":
        quantize_dynamic(str(ready), str(target), weight_type=QuantType.QUInt8)
    else:
        kind = QuantFormat.QDQ if form == "static" else QuantFormat.QOperator
        quantize_static(
            str(ready), str(target), _Reader(arrays), quant_format=kind, per_channel=True,
            reduce_range=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        )  # fmt: skip
    return target


def measured(workload: Workload, macs: float, forms: Sequence[Form], items: int) -> Iterator[Row]:
    """These forms of a workload."""
    source = workload.fetch(default_cache())
    arrays = {name: np.asarray(array) for name, array in workload.calibration(SAMPLES).items()}
    twin = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
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
        passes = PASSES.format(macs=options.macs)
        head = HEAD.format(passes=passes, samples=SAMPLES, items=options.items, bar=100 * BAR)
        options.page.write_text(head + "\n".join(map(str, rows)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
