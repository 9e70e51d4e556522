"""Reports to draw: one compile, and what it would have said had it ended otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphprune
from graphprune.pipeline.report import GroupReport, LatencyReport, PassReport, Report, WorkTime

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"
Made = Callable[[str], Report]


@pytest.fixture(scope="session")
def compiled() -> Report:
    """The shipped model at a harder cut, judged on samples."""
    with np.load(DIGITS / "calibration.npz") as file:
        samples = {name: array[:64] for name, array in file.items()}
    return graphprune.compile(DIGITS / "model.onnx", "prune(ratio=0.6)", inputs=samples).report


@pytest.fixture(scope="session")
def masked() -> Report:
    """Masks in place of cuts, nothing measured."""
    return graphprune.compile(DIGITS / "model.onnx", "magnitude(ratio=0.5)").report


def timed(report: Report, verdict: str, speedup: float) -> Report:
    """As if latency had been measured, and where the time goes."""
    medians = (2.0, 2.0 / speedup, 1.9, 1.9 / speedup)
    spread = (speedup, speedup * 0.9, speedup * 1.1)
    works = (WorkTime("contractions", 1.5, 0.5), WorkTime("control flow", 0.5, 0.25))
    latency = LatencyReport(*medians, *spread, verdict, 1, 99, "thread CPU")
    return replace(report, latency=latency, times=works)


def long(report: Report, groups: int = 300) -> Report:
    """As if there were many groups, some of them pinned, with long names."""
    (item,) = report.passes
    free = [group for group in item.groups if not group.pin and group.scores]
    copies = tuple(_copy(free[at % len(free)], at) for at in range(groups))
    return replace(report, passes=(replace(item, groups=copies),))


def _copy(group: GroupReport, at: int) -> GroupReport:
    name = f"/model/encoder/stages.{at // 50}/blocks.{at}/attention/query_key_value_projection.weight:0"
    kept = 1 + at * 7 % group.width
    if at % 10:
        return replace(group, id=name, depth=at, kept=kept)
    return replace(group, id=name, depth=at, kept=group.width, pin="Resize mixes rows", pin_node=f"/up{at}")


def of_pass(report: Report, **changes: object) -> Report:
    """The report with another first pass."""
    first: PassReport = replace(report.passes[0], **changes)  # type: ignore[arg-type]
    return replace(report, passes=(first, *report.passes[1:]))


def has(module: str) -> bool:
    """Whether a module can be imported; in a process of its own, as some leave threads behind."""
    return not subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode
