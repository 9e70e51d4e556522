"""Compiles and scores what is missing, one job after the other."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.errors import GraphpruneError
from graphprune.pipeline.report import Report
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.latency import Latency, Ratio, Subject, measure
from graphprune.runtime.session import open_session
from tools.real_models.workload import Evaluation, Workload

from .methods import Method, methods
from .results import DENSE, Key, Row, Store
from .state import measured_at

SAMPLES = 512
BENCH_SECONDS = 3.0
FRESH = ("magnitude", "wanda", "sparsegpt")  # sequential passes share nothing between compiles


def calibration_file(workload: Workload, cache: Path) -> Path:
    """The same unlabelled inputs for every method."""
    path = cache / "calibration" / f"{workload.name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **workload.calibration(SAMPLES))  # type: ignore[arg-type]
    return path


def headline(evaluation: Evaluation) -> float:
    """The first metric."""
    return next(iter(evaluation.metrics.values()))


def jobs(workload: Workload, rows: dict[Key, Row], asked: tuple[float, ...] = ()) -> Iterator[Row]:
    """What is to be compiled, mild ratios first; asked again after each, as sizes depend on earlier ones."""
    chosen = methods("language" if workload.large else "general")
    ratios = sorted({ratio for method in chosen for ratio in method.ratios} | set(asked))
    for ratio in ratios:
        for method in chosen:
            pipeline = text(method, ratio, workload, rows) if ratio in (*method.ratios, *asked) else None
            if pipeline is not None:
                yield Row(workload.name, method.name, ratio, pipeline)


def text(method: Method, ratio: float, workload: Workload, rows: dict[Key, Row]) -> str | None:
    """Pipeline text, or None where the method has to match a size that is not there."""
    if not method.same_size_as:
        return method.pipeline.format(ratio=ratio, kept=round(1 - ratio, 6))
    like = rows.get((workload.name, method.same_size_as, ratio))
    if like is None or like.error:
        return None
    return method.pipeline.format(params=f"{like.params:.6f}")


@dataclass(frozen=True)
class Choice:
    """Which jobs: some methods or all, some ratios or all."""

    methods: tuple[str, ...] = ()
    ratios: tuple[float, ...] = ()

    def __contains__(self, row: Row) -> bool:
        known = not self.methods or row.method in self.methods
        return known and (not self.ratios or row.ratio in self.ratios)


def run(workloads: tuple[Workload, ...], cache: Path, store: Store, choice: Choice) -> None:
    """Measure everything that this state of the code lacks; what failed before is tried again."""
    commit = measured_at()
    tried: set[Key] = set()
    for workload in workloads:
        dense = _dense(workload, cache, store, commit)
        while True:
            rows = store.current(commit)
            wanted = (row for row in jobs(workload, rows, choice.ratios) if row in choice)
            done = tried | {key for key, row in rows.items() if not row.error}
            job = next((row for row in wanted if row.key not in done), None)
            if job is None:
                break
            tried.add(job.key)
            row, items = _measure(workload, replace(job, commit=commit, dense=dense.metric), cache)
            store.add(row, items)
            print(_line(row), flush=True)


def _line(row: Row) -> str:
    what = row.error or (
        f"{row.metric:.4f} of {row.dense:.4f}  params {row.params:.3f}  macs {row.macs:.3f}"
        f"  x{row.speedup:.2f}"
    )
    return f"{row.workload:18s} {row.method:22s} {row.ratio:.2f}  {what}  ({row.seconds:.0f} s)"


def _dense(workload: Workload, cache: Path, store: Store, commit: str) -> Row:
    """The dense model's own row."""
    found = store.current(commit).get((workload.name, DENSE, 0.0))
    if found is not None:
        return found
    evaluation = workload.evaluate(workload.fetch(cache), None)
    value = headline(evaluation)
    row = Row(workload.name, DENSE, 0.0, "", commit, metric=value, dense=value)
    store.add(row, evaluation.items)
    return row


def _measure(
    workload: Workload, job: Row, cache: Path
) -> tuple[Row, np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None]:
    """One compile, proved and timed, and the metric of what came out."""
    start = time.monotonic()
    statistics = cache / "accuracy" / f"{workload.name}.statistics.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pruned.onnx"
        try:
            result = graphprune.compile(
                workload.fetch(cache),
                job.pipeline,
                out,
                calibration=calibration_file(workload, cache),
                statistics=None if job.pipeline.startswith(FRESH) else statistics,
                bench=False,
                timeout=1200,
                allow_short=True,
                fix=workload.fixed,
            )
        except GraphpruneError as error:
            return replace(job, error=error.message.splitlines()[0]), None
        except Exception as error:  # a run of hours goes on; the row says that there is a bug
            traceback.print_exc()
            return replace(job, error=f"internal error: {error!r}"[:200]), None
        seconds = time.monotonic() - start
        evaluation = workload.evaluate(out, None)
        timed = _timed(workload.fetch(cache), out)
    job = replace(job, metric=headline(evaluation), seconds=seconds)
    return _with_report(job, result.report, *timed), evaluation.items


def _timed(dense: Path, pruned: Path) -> tuple[Latency, Ratio]:
    """Both models in turn on the same generated input, as far as it is not fixed."""
    feeds = runnable_inputs(ir.load(dense), batch=1)
    subjects = []
    for name, path in (("dense", dense), ("pruned", pruned)):
        session = open_session(path)
        mine = {key: array for key, array in feeds.items() if key in session.inputs}
        subjects.append(Subject(name, session, mine))
    found = measure(subjects, max_seconds=BENCH_SECONDS)
    return found, found.ratios[0]


def _with_report(row: Row, report: Report, latency: Latency, ratio: Ratio) -> Row:
    before, after = report.before, report.after
    dense, pruned = latency.timings
    return replace(
        row,
        params=after.params / before.params,
        macs=after.macs / before.macs if before.macs and after.macs else 1.0,
        before_ms=1e3 * dense.cpu_median,
        after_ms=1e3 * pruned.cpu_median,
        speedup=1 / ratio.value,
        low=1 / ratio.high,
        high=1 / ratio.low,
        verdict=ratio.verdict,
    )
