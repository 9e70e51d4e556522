"""What a run of `profile` measured, as tables."""

from __future__ import annotations

from graphprune.ir.names import count, escape
from graphprune.pipeline.kit import Kit
from graphprune.pipeline.profiling import PredictedModel, Profiled
from graphprune.report import numbers
from graphprune.report.table import Table


def tables(result: Profiled) -> tuple[Table, ...]:
    """The machine, and every model predicted from its nodes beside what it takes."""
    threads = count(result.threads, "thread")
    rows = (
        ("machine", escape(" ".join(result.features))),
        ("ONNX Runtime", f"{result.runtime}, {threads}"),
        ("kinds of nodes", f"{result.kinds}, {result.new} of them new"),
        ("noise", f"{result.noise:.1%} between two measurements of one node"),
        ("measured for", f"{result.minutes:.1f} minutes in all"),
    )
    note = f"{result.left} kinds are left: run it again with the same -o" if result.left else ""
    if not result.models:
        return (Table("Profile", ("", ""), rows, note),)
    columns = ("model", ">nodes", ">predicted", ">measured", ">by others", ">not known")
    return (
        Table("Profile", ("", ""), rows, note),
        Table("Models as they are", columns, tuple(map(_row, result.models))),
    )


def kit_tables(result: Kit) -> tuple[Table, ...]:
    """What a kit holds, and what to do with it."""
    rows = (
        ("models", str(result.models)),
        ("size", numbers.short(result.bytes, "B")),
        ("weights made there", numbers.short(result.weights_bytes, "B")),
        ("there", "python run.py"),
        ("back here", "graphprune profile --from results -o device.json"),
    )
    return (Table("Kit", ("", ""), rows),)


def _row(model: PredictedModel) -> tuple[str, ...]:
    return (
        escape(model.name),
        str(model.nodes),
        numbers.milliseconds(model.predicted_ms),
        numbers.milliseconds(model.measured_ms),
        str(model.alike),
        str(model.unknown),
    )
