"""`graphprune bench`: size and latency of models."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Timing


@click.command("bench")
@click.argument("models", type=options.path, nargs=-1, required=True)
@options.inputs("time on; generated where not given")
@options.of(Timing)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(models: tuple[str, ...], inputs: Path | None, chosen: options.Chosen[Timing], show: Show) -> None:
    """Measure parameters, MACs, bytes and latency of MODELS, and compare each with the first."""
    from graphprune.pipeline import benchmark
    from graphprune.report.benched import tables

    with show.progress() as progress:
        result = benchmark.bench(models, models, inputs, chosen.settings(progress=progress))
    show.result(result, tables)
