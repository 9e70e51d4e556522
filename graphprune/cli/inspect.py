"""`graphprune inspect`: what is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Looking

if TYPE_CHECKING:
    from graphprune.axes import Options


@click.command("inspect")
@click.argument("models", type=options.path, nargs=-1, required=True)
@options.inputs("take shapes from")
@options.analysis()
@options.of(Looking)
@options.printing()
def command(
    models: tuple[str, ...],
    inputs: Path | None,
    assumed: Options,
    chosen: options.Chosen[Looking],
    show: Show,
) -> None:
    """Show the size and operators of MODELS, their groups, and what is pinned by which node."""
    from graphprune.pipeline import inspection
    from graphprune.report.inspected import tables

    settings = chosen.settings()
    found = [inspection.inspect(model, settings, assumed, inputs) for model in models]
    document = found[0] if len(found) == 1 else {"models": found}
    show.result(found, lambda each: [table for one in each for table in tables(one)], document)
