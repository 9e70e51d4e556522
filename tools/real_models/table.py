"""Compiles every workload at a mild and a strong ratio; writes docs/real_models.md from what was measured."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import graphprune
from graphprune.errors import GraphpruneError

from .workload import Evaluation, Kind, Workload, paired

RATIOS = (0.2, 0.5)
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "real_models.md"
RESULTS = "real_models.jsonl"
HEADINGS = {
    Kind.GROUND_TRUTH: "Real data with ground truth",
    Kind.SYNTHETIC: "Synthetic input whose ground truth is known",
    Kind.AGREEMENT: "Agreement with the dense model (1.0 by construction, not accuracy)",
}


@dataclass(frozen=True)
class Row:
    """One compile of one workload; `error` says why there is no result."""

    workload: str
    pipeline: str
    dense: float = 0.0
    pruned: float = 0.0
    change: float = 0.0
    standard_error: float = 0.0
    params: float = 1.0
    macs: float = 1.0
    speedup: float = 1.0
    speedup_low: float = 1.0
    speedup_high: float = 1.0
    verdict: str = ""
    proof: float = 0.0
    error: str = ""


def headline(evaluation: Evaluation) -> float:
    return next(iter(evaluation.metrics.values()))


def measure(workload: Workload, cache: Path, pipeline: str, dense: Evaluation) -> Row:
    """One compile, proved and timed, and the metric of what came out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        try:
            result = graphprune.compile(workload.fetch(cache), pipeline, out, bench=True)
        except GraphpruneError as error:
            return Row(workload.name, pipeline, dense=headline(dense), error=error.message.splitlines()[0])
        pruned = workload.evaluate(out, None)
    report, change = result.report, paired(pruned, dense)
    latency = report.latency
    return Row(
        workload=workload.name,
        pipeline=pipeline,
        dense=headline(dense),
        pruned=headline(pruned),
        change=change.mean,
        standard_error=change.standard_error,
        params=report.after.params / report.before.params,
        macs=report.after.macs / report.before.macs if report.before.macs and report.after.macs else 1.0,
        speedup=latency.speedup if latency else 1.0,
        speedup_low=latency.speedup_low if latency else 1.0,
        speedup_high=latency.speedup_high if latency else 1.0,
        verdict=latency.verdict if latency else "",
        proof=max((step.proof.error for step in report.passes if step.proof is not None), default=0.0),
    )


def run(workloads: tuple[Workload, ...], cache: Path, template: str) -> list[Row]:
    """Measures what is not in the results file yet; each row is stored as soon as it is there."""
    store = cache / RESULTS
    rows = [Row(**json.loads(line)) for line in store.read_text().splitlines()] if store.exists() else []
    done = {(row.workload, row.pipeline) for row in rows}
    for workload in workloads:
        pipelines = [template.format(ratio=ratio) for ratio in RATIOS]
        missing = [pipeline for pipeline in pipelines if (workload.name, pipeline) not in done]
        dense = workload.evaluate(workload.fetch(cache), None) if missing else None
        for pipeline in missing:
            assert dense is not None
            row = measure(workload, cache, pipeline, dense)
            rows.append(row)
            with store.open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            print(line(row), flush=True)
    return rows


def line(row: Row) -> str:
    """One row of the table."""
    if row.error:
        return f"| {row.workload} | {row.pipeline} | {row.dense:.3f} | {row.error} | | | | | |"
    speed = f"{row.speedup:.2f}x ({row.speedup_low:.2f} to {row.speedup_high:.2f})"
    return (
        f"| {row.workload} | {row.pipeline} | {row.dense:.3f} | {row.pruned:.3f} "
        f"| {row.change:+.3f} ± {row.standard_error:.3f} | {row.params:.3f} | {row.macs:.3f} "
        f"| {speed} | {row.proof:.1e} |"
    )


def write(workloads: tuple[Workload, ...], rows: list[Row]) -> None:
    """Writes the page, one table per kind of metric."""
    text = [
        "# Real models",
        "",
        "Trained models, cut once by weight norms without any repair or training, proved, and measured with",
        "their task metric and in ONNX Runtime (one thread, interleaved, 99 % interval).",
        "",
        "Made by `python -m tools.real_models table`. The paired difference is over the same items,",
        "± one standard error.",
        "",
    ]
    columns = (
        "model, pipeline, dense, pruned, paired difference, params left, MACs left, speed-up, proof error"
    )
    header = "| " + columns.replace(", ", " | ") + " |"
    for kind, heading in HEADINGS.items():
        names = {each.name: each.metric for each in workloads if each.kind is kind and not each.large}
        mine = [row for row in rows if row.workload in names]
        if mine:
            text += [f"## {heading}", "", header, "|---" * 9 + "|", *(line(row) for row in mine), ""]
            text += [*(f"- {name}: {metric}" for name, metric in names.items()), ""]
    PAGE.write_text("\n".join(text))
