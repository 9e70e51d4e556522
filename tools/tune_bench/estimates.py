"""How well the samples that choose foretell what a cut loses on test data, by each way to estimate it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

import graphprune
from graphprune.pipeline.settings import Tuning
from graphprune.tuning.case import Case, Job
from graphprune.tuning.judge import DropJudge
from tools.accuracy.run import headline
from tools.real_models.workload import Workload

from .run import inputs

LEFT = (0.4, 0.3, 0.25, 0.2, 0.15)
MOST = 0.06
"""Cuts that lose more are of no use to anybody."""


def estimates(workloads: Sequence[Workload], cache: Path) -> None:
    """A line per cut, then how far each estimate is off over all of them."""
    apart: dict[str, list[float]] = {}
    for workload in workloads:
        dense, samples = workload.fetch(cache), inputs(workload, cache)
        before = headline(workload.evaluate(dense, None))
        case = Case(Job(dense, samples), Tuning())
        judge, chosen = case.judge, case.parts.selection
        assert isinstance(judge, DropJudge)
        for left in LEFT:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "small.onnx"
                passes = f"obspa(macs={left}, io=fixed)"
                graphprune.compile(dense, passes, path, calibration=case.parts.repair[0], bench=False)
                lost = before - headline(workload.evaluate(path, None))
                small = ir.load(path)
                found = {
                    "counted": judge.loss(small, chosen),
                    "smoothed": judge.smoothed(small, chosen),
                    "with noise": judge.estimate(small, chosen),
                }
            told = "  ".join(f"{name} {each.value:.4f} ± {each.error:.4f}" for name, each in found.items())
            print(f"{workload.name:18s} {left:.2f}  lost {lost:.4f}  {told}", flush=True)
            for name, each in found.items():
                if lost <= MOST:
                    apart.setdefault(name, []).append(each.value - lost)
    for name, gaps in apart.items():
        square, mean = float(np.sqrt(np.mean(np.square(gaps)))), float(np.mean(gaps))
        print(f"{name:10s} off by {square:.4f} (root mean square), on average {mean:+.4f}, {len(gaps)} cuts")
