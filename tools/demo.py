"""`make demo`: compile the model that ships with the repository, and show what it costs and gains."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import graphprune
from graphprune.errors import GraphpruneError
from graphprune.pipeline.result import Result
from graphprune.report.compiled import proved, speed, totals
from graphprune.report.table import Table, plain

DIGITS = Path(__file__).resolve().parent.parent / "models" / "digits_cnn"
PIPELINE = "prune(macs=0.6)"


@dataclass(frozen=True)
class Demo:
    """The shipped model before and after: top-1 on 1 000 held-out digits, and the compile's report."""

    accuracy_before: float
    accuracy_after: float
    result: Result


def run(folder: Path) -> Demo:
    """Compile models/digits_cnn/model.onnx into a folder and measure both models on the held-out images."""
    accuracy = _metric()
    dense, small = DIGITS / "model.onnx", folder / "digits_small.onnx"
    result = graphprune.compile(dense, PIPELINE, small, force=True, bench=True)
    return Demo(accuracy(dense), accuracy(small), result)


def _metric() -> Callable[[Path], float]:
    """The metric beside the model, which is a script and not part of any package."""
    spec = importlib.util.spec_from_file_location("digits_metric", DIGITS / "metric.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    measure: Callable[[Path], float] = module.accuracy
    return measure


def table(demo: Demo) -> Table:
    """Accuracy on top of what every compile reports."""
    base = totals(demo.result.report)
    lost = 100 * (demo.accuracy_before - demo.accuracy_after)
    before, after = (f"{100 * value:.1f} %" for value in (demo.accuracy_before, demo.accuracy_after))
    row = ("accuracy", before, after, f"{-lost:+.1f} pt")
    title = f"graphprune compile models/digits_cnn/model.onnx --passes {PIPELINE!r}"
    return Table(title, base.columns, (row, *base.rows), speed(demo.result.report.latency))


def main() -> int:
    """Print the table; the compiled model stays in build/demo."""
    folder = Path("build") / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        demo = run(folder)
    except GraphpruneError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    proof = demo.result.report.passes[0].proof
    print(plain(table(demo)))
    print(proved(proof))
    name = demo.result.report.files[0]
    print(f"the model is {name}; look inside with: .venv/bin/graphprune inspect {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
