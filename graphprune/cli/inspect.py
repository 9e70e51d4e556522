"""`graphprune inspect`: what is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options

if TYPE_CHECKING:
    from graphprune.labels.options import LayerNorm


@click.command("inspect")
@click.argument("model", type=options.path)
@options.inputs("take shapes from")
@options.shapes()
@options.fix()
@options.analysis()
@options.limits()
@options.output_format()
def command(
    model: str,
    inputs: str | None,
    shapes: dict[str, tuple[int, ...]],
    fix: dict[str, object],
    layernorm: LayerNorm,
    allow_inexact: bool,
    max_bytes: int | None,
    allow_external_links: bool,
    form: str,
) -> None:
    """Show the size and operators of MODEL, its groups, and what is pinned by which node."""
    from graphprune.cli.output import show_json, show_tables
    from graphprune.pipeline import inspection
    from graphprune.pipeline.settings import Settings
    from graphprune.report.inspected import tables

    settings = Settings(
        shapes=shapes,
        fix=fix,  # type: ignore[arg-type]
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
    )
    given = Path(inputs) if inputs is not None else None
    result = inspection.inspect(model, settings, options.analysis_options(layernorm, allow_inexact), given)
    if form == "json":
        show_json(result)
    else:
        show_tables(tables(result))
