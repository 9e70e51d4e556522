"""Renders benchmark rows as Markdown."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from tools.bench_peers import jobs

_PACKAGES = ("torch-pruning", "onnxsim", "onnxruntime", "onnx-ir", "torch", "numpy")


@dataclass(frozen=True)
class Row:
    """One measurement; `reason` says why there is none."""

    model: str
    job: str
    cpu: float | None = None
    before: float | None = None
    peak: float | None = None
    whole: float | None = None
    kept: float | None = None
    groups: int | None = None
    runs: bool | None = None
    note: str = ""
    reason: str = ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def line(row: Row) -> str:
    """One line for a terminal."""
    if row.reason:
        return f"{row.model}: {row.job}: {row.reason}"
    kept = "" if row.kept is None else f", {row.kept:.1%} kept"
    return f"{row.model}: {row.job}: {row.cpu:.3f} CPU s, {row.peak:.0f} MB{kept}"


def _find(rows: Sequence[Row], model: str, job: str) -> Row:
    return next(
        (row for row in rows if (row.model, row.job) == (model, job)), Row(model, job, reason="not measured")
    )


def _models(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows if row.job not in jobs.BIG))


def _ratio(ours: Row, theirs: Row) -> str:
    return f"{theirs.cpu / ours.cpu:.1f}x" if ours.cpu and theirs.cpu else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(titles: Sequence[str]) -> list[str]:
    return [_row(titles), "|---" * len(titles) + "|"]


def _analysis(rows: Sequence[Row]) -> list[str]:
    lines = _head(("Model", "torch-pruning CPU s", "graphprune CPU s", "ratio", "groups (theirs, ours)"))
    for model in _models(rows):
        theirs, ours = (_find(rows, model, job) for job in jobs.ANALYSES)
        seconds = [_number(row.cpu, ".3f") for row in (theirs, ours)]
        groups = f"{theirs.groups or ''}, {ours.groups or ''}"
        lines.append(_row((model, *seconds, _ratio(ours, theirs), groups)))
    return lines


def _pruning(rows: Sequence[Row]) -> list[str]:
    lines = _head(
        (
            "Model",
            "Tool",
            "CPU s",
            "MB before",
            "peak MB",
            "MB with the proof",
            "parameters kept",
            "runs",
            "note",
        )
    )
    for model in _models(rows):
        for job in jobs.PRUNERS:
            row = _find(rows, model, job)
            memory = [_number(value, ".0f") for value in (row.before, row.peak)]
            proof = _number(row.whole, ".0f") if job.startswith("graphprune") else ""
            runs = "" if row.runs is None else ("yes" if row.runs else "no")
            kept, note = _number(row.kept, ".1%"), row.note or row.reason
            lines.append(_row((model, job, _number(row.cpu, ".3f"), *memory, proof, kept, runs, note)))
    return lines


def _big(rows: Sequence[Row]) -> list[str]:
    chosen = [row for row in rows if row.job in jobs.BIG]
    if not chosen:
        return ["Not measured in this run."]
    floor, ours = (_find(rows, chosen[0].model, job) for job in jobs.BIG)
    lines = _head(("Work", "CPU s", "times the floor", "peak MB", "MB with the proof"))
    for title, row in (("copy the file and read every weight", floor), ("`prune(criterion=l1)`", ours)):
        times = f"{row.cpu / floor.cpu:.2f}" if row.cpu and floor.cpu else row.reason
        memory = [_number(value, ".0f") for value in (row.peak, row.whole)]
        lines.append(_row((title, _number(row.cpu, ".2f"), times, *memory)))
    return lines


_METHOD = """\
CPU seconds are user plus system of the process and its children, imports excluded, best of several runs
in a process of its own, one thread. Memory is the largest anonymous resident size in one further run,
imports included; mmapped files do not count. graphprune's time is its phases load, normalise, analyse,
decide, rewrite, check and save; what its proof costs on top is in the note."""

_ANALYSIS = """\
torch-pruning starts from the module in memory (trace, then enumerate groups). graphprune starts from the
`.onnx` file on disk (load, preflight, normalise, analyse)."""

_PRUNING = f"""\
graphprune: `{jobs.PIPELINE}`, from file to file. onnxsim: structured, then attention-head pruning with L1
scores, from file to file. torch-pruning: `MagnitudePruner.step()` with L1 scores and local scope, in
memory; it neither loads nor saves. No tool prunes the classifier's outputs. *Runs* says whether the
result computes an output; only graphprune checks that it is the right one."""


def render(rows: Sequence[Row]) -> str:
    """The page: how it was measured, then the three tables."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    sections = (
        "# Benchmarks against peers",
        "Generated by `python -m tools.bench_peers --output docs/benchmarks.md`; do not edit.",
        f"Python {platform.python_version()}, {versions}.",
        _METHOD,
        "## Analysis: find the groups",
        _ANALYSIS,
        "\n".join(_analysis(rows)),
        f"## Pruning at ratio {jobs.RATIO}",
        _PRUNING,
        "\n".join(_pruning(rows)),
        "## A 1 GB model with external data",
        "\n".join(_big(rows)),
    )
    return "\n\n".join(sections) + "\n"
