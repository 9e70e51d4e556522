"""`graphprune init`: a first graphprune.toml."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.errors import OutputError
from graphprune.ir.names import quote
from graphprune.pipeline.settings import Files, Looking


@click.command("init")
@click.argument("model", type=options.path)
@click.option(
    "-o",
    "--output",
    type=options.path,
    metavar="FILE",
    default="graphprune.toml",
    show_default=True,
    help="Where it goes.",
)
@options.data("--calibration", "Samples for criteria and repair.")
@options.inputs("judge results on")
@options.of(Looking, project=False)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    model: str,
    output: str,
    calibration: Path | None,
    inputs: Path | None,
    force: bool,
    quiet: bool,
    chosen: options.Chosen[Looking],
) -> None:
    """Write a commented graphprune.toml for MODEL: its inputs and shapes, a pipeline, thresholds.

    Commands that run in its folder, or below it, take their settings from it.
    """
    from graphprune.cli.output import say
    from graphprune.ir.names import escape
    from graphprune.ir.paths import exists
    from graphprune.ir.publish import write_file
    from graphprune.pipeline.starter import start

    path = Path(output)
    if exists(path) and not force:
        raise OutputError(f"{quote(output)} exists", "--force replaces it; -o names another file")
    read = [Path(model), *filter(None, (calibration, inputs))]
    given = {"calibration": calibration, "inputs": inputs}
    files = Files(**{name: str(data) for name, data in given.items() if data is not None})
    write_file(path, start(model, path, chosen.settings(), files).encode(), read)
    if not quiet:
        say(f"wrote {escape(output)}")
