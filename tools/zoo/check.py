"""One row of the coverage table: load, analyse, prune, prove and run one export."""

from __future__ import annotations

import collections
import dataclasses
import resource
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphprune.ops import record_of
from tools.zoo.entry import Entry
from tools.zoo.isolate import Outcome, one_line

PIPELINE = "prune(criterion=l1,scope=local,ratio=0.5,align=1,layernorm=slice,allow-inexact=true)"
STAGES = ("export", "load", "analyse", "prune", "run", "done")
NOT_YET = "not exported yet"
MOST_SHORT = 5
_OTHER_BATCH = 3


@dataclass
class Check:
    """What is known of one model; filled stage by stage, so that a failure keeps what came before it.

    Attributes:
        stage: the stage that failed, or `done`.
        reason: why it failed.
        parameters: floating elements before.
        groups: number of groups, prunable and pinned.
        share: share of parameters in prunable groups.
        pins: number of pinned groups by reason.
        pinned: id, reason and node of every pinned group.
        short: what keeps more than a full cut leaves, the largest first.
        full_cut: parameters that a cut of every internal width would keep.
        kept: parameters after pruning.
        error: error of the proof relative to the largest output.
        seconds: CPU seconds of analysis, and of the whole compile with its proof.
    """

    stage: str = "load"
    reason: str = ""
    parameters: int | None = None
    groups: int | None = None
    share: float | None = None
    pins: dict[str, int] = field(default_factory=dict)
    pinned: list[tuple[str, str, str]] = field(default_factory=list)
    short: list[dict[str, object]] = field(default_factory=list)
    full_cut: int | None = None
    kept: int | None = None
    error: float | None = None
    analyse_seconds: float | None = None
    compile_seconds: float | None = None


def _seconds() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def check(path: Path, single: bool = False) -> Check:
    """Runs every stage on one file; the first failure ends it and is part of the result.

    Args:
        path: the export.
        single: whether the model is so large that one sample at a time has to do.
    """
    result = Check()
    try:
        _stages(path, result, single)
    except Exception as error:
        result.reason = one_line(error)
    return result


def _stages(path: Path, result: Check, single: bool) -> None:
    from math import prod

    from graphprune.axes import Options, analyse
    from graphprune.ir.limits import Limits
    from graphprune.ir.load import load
    from graphprune.ir.normalise import normalise
    from tools.zoo import full_cut

    start = _seconds()
    model = load(path, Limits()).model
    result.stage = "analyse"
    sizes = normalise(model, record_of)
    analysis = analyse(model, Options(layernorm="slice", allow_inexact=True), sizes)
    result.analyse_seconds = _seconds() - start
    result.parameters = sum(prod(shape) for _, shape in full_cut.floating_initializers(model))
    result.groups = len(analysis.groups)
    result.share = full_cut.prunable_share(analysis)
    result.full_cut = full_cut.full_cut(analysis)
    pins = [(group.id, group.pin) for group in analysis.groups if group.pin is not None]
    result.pins = dict(collections.Counter(pin.reason for _, pin in pins))
    result.pinned = [(name, pin.reason, pin.node) for name, pin in pins]
    result.stage = "prune"
    kept = _prune(path, result, single)
    found = full_cut.shortfalls(analysis, kept)[:MOST_SHORT]
    result.short = [dataclasses.asdict(item) for item in found]
    result.stage = "done"


def _prune(path: Path, result: Check, single: bool) -> dict[str, int]:
    """Compiles the file and runs the result; returns the Units left per group."""
    import graphprune

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        start = _seconds()
        shapes = _shapes_of_one(path) if single else None
        report = graphprune.compile(str(path), PIPELINE, str(output), bench=False, shape=shapes).report
        result.compile_seconds = _seconds() - start
        result.parameters, result.kept = report.before.params, report.after.params
        result.error = max((item.proof.error for item in report.passes), default=None)
        result.stage = "run"
        _run(output, 1 if single else _OTHER_BATCH)
    return {group.id: group.kept for item in report.passes for group in item.groups}


def _shapes_of_one(path: Path) -> dict[str, tuple[int, ...]]:
    """Input shapes with 1 for every symbol."""
    import onnx_ir as ir

    inputs = ir.load(path).graph.inputs
    return {
        value.name or "": tuple(dim if isinstance(dim, int) else 1 for dim in value.shape or ())
        for value in inputs
    }


def _run(path: Path, batch: int) -> None:
    """Runs the written file by itself, most often at a batch that neither the export nor the proof used."""
    import onnx_ir as ir
    import onnxruntime

    from graphprune.runtime.inputs import runnable_inputs

    feeds = runnable_inputs(ir.load(path), batch=batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def row(entry: Entry, outcome: Outcome[Check]) -> dict[str, object]:
    """The JSON row of a model that was checked, or whose child died."""
    found = outcome.value or Check(stage="crash", reason=outcome.reason or "")
    return {"name": entry.name, **dataclasses.asdict(found)}


def not_exported(entry: Entry, reason: str) -> dict[str, object]:
    """The JSON row of a model that has no file."""
    return {"name": entry.name, **dataclasses.asdict(Check(stage="export", reason=reason))}


def summary(found: Mapping[str, object]) -> str:
    """One line for a terminal."""
    if found["stage"] != "done":
        return f"{found['stage']}: {found['reason']}"
    kept, full, parameters = found["kept"], found["full_cut"], found["parameters"]
    assert isinstance(kept, int) and isinstance(full, int) and isinstance(parameters, int)
    return f"kept {kept / parameters:.1%} (full cut {full / parameters:.1%}), proof error {found['error']}"
