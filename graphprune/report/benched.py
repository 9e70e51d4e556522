"""The result of `bench` as a table."""

from __future__ import annotations

from graphprune.ir.names import count, escape
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
        ">load",
        ">memory",
        ">median",
        ">p10",
        ">speed-up",
        ">99 % interval",
        "verdict",
    )
    threads = count(result.threads, "thread")
    note = f"{result.rounds} interleaved rounds, {threads}, {result.clock} time"
    note += "".join(_ran(model, result) for model in result.models)
    at = sizes.assumed(result.generated)
    rows = tuple(_row(model) for model in result.models)
    return (Table("", columns, rows, "\n".join(filter(None, (at, note)))),)


def _ran(model: ModelBench, result: Bench) -> str:
    """What ran a model, where it is not what ran all before."""
    at = next(number for number, each in enumerate(result.models) if each.providers == model.providers)
    if result.models[at] is not model:
        return ""
    which = f" ({escape(model.name)})" if len({each.providers for each in result.models}) > 1 else ""
    return sizes.ran_on(model.providers) + which


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
        numbers.milliseconds(model.load_ms) if model.load_ms is not None else "",
        numbers.short(model.peak_bytes, "B") if model.peak_bytes is not None else "",
        numbers.milliseconds(model.median_ms),
        numbers.milliseconds(model.p10_ms),
        f"{model.speedup:.2f}x" if told else "",
        interval,
        model.verdict,
    )
