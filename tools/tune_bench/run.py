"""Runs the searches that are missing, one after the other, and judges each."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.errors import GraphpruneError
from graphprune.lowering.table import here
from graphprune.runtime.inputs import runnable_inputs
from graphprune.runtime.latency import Latency, Subject, measure
from graphprune.runtime.session import open_session
from graphprune.tuning.tuned import Tuned
from tools.accuracy.run import SAMPLES, calibration_file, headline
from tools.accuracy.state import measured_at
from tools.real_models.workload import Kind, Workload, paired

from .results import Key, Row, Store
from .shift import shifted

BENCH_SECONDS = 3.0
WHOLE_MS = 1.0
"""A batch is chosen at which the dense model takes about this long."""
LARGEST_BATCH = 1024
UNSEEN = 2 * SAMPLES
PIECE = 64
"""Length of the samples of models that take one text at a time."""


@dataclass(frozen=True)
class Asked:
    """Searches: models, minutes and seeds."""

    workloads: Sequence[Workload]
    minutes: Sequence[float]
    seeds: Sequence[int]

    def searches(self, place: str) -> Iterable[tuple[Workload, Key]]:
        for minutes in self.minutes:
            for seed in self.seeds:
                yield from ((each, (place, each.name, minutes, seed)) for each in self.workloads)


def run(asked: Asked, cache: Path, store: Store) -> None:
    """Searches for everything that this state of the code lacks; what failed before is tried again."""
    commit, place = measured_at(), here()
    for workload, key in asked.searches(place):
        found = store.rows().get(key)
        if found is not None and found.commit == commit and not found.error:
            continue
        row = Row(*key[1:], kind=workload.kind.value, place=place, commit=commit)
        store.add(_measured(workload, row, cache))
        print(line(store.rows()[key]), flush=True)


def line(row: Row) -> str:
    what = row.error or (
        f"{row.dense:.4f} -> {row.metric:.4f} ({row.change:+.4f} ± {row.change_error:.4f})"
        f"  x{row.speedup:.2f}  drop {row.drop:.4f} [{row.drop_low:.4f}, {row.drop_high:.4f}]"
        f" unseen {row.unseen_drop}  {row.pipeline}"
    )
    return f"{row.workload:18s} {row.minutes:4.1f} min seed {row.seed}  {what}  ({row.seconds:.0f} s)"


def inputs(workload: Workload, cache: Path) -> Path:
    """Unlabelled inputs; for a model that takes one at a time, a file for each piece of a long one."""
    path = calibration_file(workload, cache)
    with np.load(path) as known:
        if any(len(known[name]) > 1 for name in known):
            return path
    folder = path.with_suffix("")
    if not folder.is_dir():
        whole = workload.calibration(PIECE * SAMPLES)
        partial = folder.with_name(f".{folder.name}")
        partial.mkdir(exist_ok=True)
        for number in range(SAMPLES):
            piece = {name: array[:, PIECE * number :][:, :PIECE] for name, array in whole.items()}
            np.savez(partial / f"{number:04}.npz", **piece)  # type: ignore[arg-type]
        partial.rename(folder)
    return folder


def _measured(workload: Workload, row: Row, cache: Path) -> Row:
    """One search, and the task's metric of what came out."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tuned.onnx"
        try:
            search = graphprune.tune(
                workload.fetch(cache),
                inputs(workload, cache),
                out,
                time=60 * row.minutes,
                seed=row.seed,
                fix=workload.fixed,
            )
            found = search.finish()
            row = replace(row, seconds=time.monotonic() - start)
            return _judged(workload, row, cache, out, found)
        except GraphpruneError as error:
            return replace(row, error=error.message.splitlines()[0])
        except Exception as error:  # a run of hours goes on; the row says that there is a bug
            traceback.print_exc()
            return replace(row, error=f"internal error: {error!r}"[:200])


def _judged(workload: Workload, row: Row, cache: Path, out: Path, found: Tuned) -> Row:
    dense_file = workload.fetch(cache)
    dense, small = workload.evaluate(dense_file, None), workload.evaluate(out, None)
    change = paired(small, dense)
    lost = found.result.reported if found.result is not None else None
    one = timed(dense_file, out, 1)
    batch = batch_of(dense_file, 1e3 * one.timings[0].cpu_median)
    many = one if batch == 1 else timed(dense_file, out, batch)
    ratio = one.ratios[0]
    return replace(
        row,
        pipeline=found.pipeline,
        tried=found.tried,
        dense=headline(dense),
        metric=headline(small),
        change=change.mean,
        change_error=change.standard_error,
        shifted=_noise(workload, dense_file, out.parent) if workload.kind is Kind.AGREEMENT else 0.0,
        drop=lost.value if lost is not None else 0.0,
        drop_low=lost.low if lost is not None else 0.0,
        drop_high=lost.high if lost is not None else 0.0,
        unseen_drop=_unseen_drop(workload, dense_file, out),
        before_ms=1e3 * one.timings[0].cpu_median,
        speedup=1 / ratio.value,
        low=1 / ratio.high,
        high=1 / ratio.low,
        batch=batch,
        batch_speedup=1 / many.ratios[0].value,
        stopped="; ".join(found.stopped),
    )


def timed(dense: Path, small: Path, batch: int) -> Latency:
    """Both in turn on the same generated input."""
    feeds = runnable_inputs(ir.load(dense), batch=batch)
    subjects = []
    for name, path in (("dense", dense), ("small", small)):
        session = open_session(path)
        mine = {key: array for key, array in feeds.items() if key in session.inputs}
        subjects.append(Subject(name, session, mine))
    return measure(subjects, max_seconds=BENCH_SECONDS)


def batch_of(dense: Path, milliseconds: float) -> int:
    """The power of two at which the model takes about a millisecond; 1 where its batch is fixed."""
    shapes = [value.shape for value in ir.load(dense).graph.inputs]
    opened = all(shape is None or (len(shape) and not isinstance(shape[0], int)) for shape in shapes)
    if not opened or milliseconds >= WHOLE_MS:
        return 1
    return int(min(LARGEST_BATCH, 2 ** np.ceil(np.log2(WHOLE_MS / milliseconds))))


def _unseen_drop(workload: Workload, dense: Path, small: Path) -> float | None:
    """The drop on inputs beyond those that tune got; None where there are no more."""
    arrays = {name: array[SAMPLES:] for name, array in workload.calibration(UNSEEN).items()}
    if not all(map(len, arrays.values())):
        return None
    found = graphprune.check(dense, small, arrays, max_drop=1.0, fix=workload.fixed)
    return next((each.value for each in found.figures if each.name == "drop"), None)


def _noise(workload: Workload, dense: Path, folder: Path) -> float:
    """What the dense model loses against itself when its input is shifted by one."""
    path = folder / "shifted.onnx"
    if not shifted(dense, path):
        return 0.0
    return headline(workload.evaluate(dense, None)) - headline(workload.evaluate(path, None))
