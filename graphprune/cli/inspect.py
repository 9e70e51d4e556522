"""`graphprune inspect`: what is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Inspecting

if TYPE_CHECKING:
    from graphprune.axes import Options


@click.command("inspect")
@click.argument("models", type=options.path, nargs=-1, required=True)
@options.inputs("take shapes from")
@options.analysis()
@options.of(Inspecting)
@options.printing()
def command(
    models: tuple[str, ...],
    inputs: Path | None,
    assumed: Options,
    chosen: options.Chosen[Inspecting],
    show: Show,
) -> None:
    """Show the size and operators of MODELS, their groups, and what is pinned by which node."""
    from dataclasses import replace

    from graphprune.pipeline import inspection, timed
    from graphprune.report.inspected import tables

    with show.progress() as progress:
        settings = chosen.settings(progress=progress)
        found = [inspection.inspect(model, settings, assumed, inputs) for model in models]
        if settings.time:
            found = [
                replace(each, times=timed.time_nodes(model, settings, inputs))
                for each, model in zip(found, models, strict=True)
            ]
    document = found[0] if len(found) == 1 else {"models": found}
    show.result(found, lambda each: [table for one in each for table in tables(one)], document)
