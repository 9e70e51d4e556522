"""`graphprune profile`: what the nodes of models cost on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Profiling


@click.command("profile")
@click.argument("models", type=options.path, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The profile, a .json; what it holds already is not measured again.",
)
@options.inputs("take shapes from; generated where not given")
@options.of(Profiling)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    models: tuple[str, ...], output: Path, inputs: Path | None, chosen: options.Chosen[Profiling], show: Show
) -> None:
    """Measure what the nodes of MODELS cost on this machine as functions of their widths, into a file.

    A model of which all nodes are known is predicted from the file, at widths that nobody measured, too.
    """
    from graphprune.pipeline import profiling
    from graphprune.report.profiled import tables

    with show.progress() as progress:
        result = profiling.profile_machine(models, output, chosen.settings(progress=progress), inputs)
    show.result(result, tables)
    show.files([str(output)])
