"""The result of `bench` as a table."""

from __future__ import annotations

from graphprune.ir.names import escape
from graphprune.pipeline.benchmark import Bench, ModelBench
from graphprune.report import numbers, sizes
from graphprune.report.table import Table


def tables(result: Bench) -> tuple[Table, ...]:
    """One row per model."""
    columns = (
        "model",
        ">params",
        ">MACs",
        ">bytes",
        ">median",
        ">p10",
        ">speed-up",
        ">99 % interval",
        "verdict",
    )
    threads = f"{result.threads} thread" + ("s" if result.threads != 1 else "")
    note = f"{result.rounds} interleaved rounds, {threads}, {result.clock} time"
    at = sizes.assumed(result.models[0].size.assumed, result.generated)
    rows = tuple(_row(model) for model in result.models)
    return (Table("", columns, rows, "\n".join(filter(None, (at, note)))),)


def _row(model: ModelBench) -> tuple[str, ...]:
    # Noise is not quoted as a factor: where the interval says nothing, neither does the table.
    told = model.speedup is not None and model.verdict in ("faster", "slower")
    interval = (
        f"{model.speedup_low:.2f} to {model.speedup_high:.2f}"
        if model.speedup_low and model.speedup_high
        else ""
    )
    return (
        escape(model.name),
        numbers.short(model.size.params),
        numbers.short(model.size.macs),
        numbers.short(model.size.bytes if model.file_bytes is None else model.file_bytes, "B"),
        numbers.milliseconds(model.median_ms),
        numbers.milliseconds(model.p10_ms),
        f"{model.speedup:.2f}x" if told else "",
        interval,
        model.verdict,
    )
