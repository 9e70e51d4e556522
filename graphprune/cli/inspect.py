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
@click.argument("model", type=options.path)
@options.inputs("take shapes from")
@options.analysis()
@options.of(Looking)
@options.printing()
def command(
    model: str, inputs: Path | None, assumed: Options, chosen: options.Chosen[Looking], show: Show
) -> None:
    """Show the size and operators of MODEL, its groups, and what is pinned by which node."""
    from graphprune.pipeline import inspection
    from graphprune.report.inspected import tables

    show.result(inspection.inspect(model, chosen.settings(), assumed, inputs), tables)
