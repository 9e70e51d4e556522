"""`graphprune profile`: what the nodes of models cost on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Profiling


@click.command("profile")
@click.argument("models", type=options.path, nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The profile, a .json; what it holds already is not measured again.",
)
@click.option(
    "--from",
    "results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Measure nothing here: make the profile of what a kit wrote on another machine (bench-kit).",
)
@options.inputs("take shapes from; generated where not given")
@options.of(Profiling)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    models: tuple[str, ...],
    output: Path,
    results: Path | None,
    inputs: Path | None,
    chosen: options.Chosen[Profiling],
    show: Show,
) -> None:
    """Measure what the nodes of MODELS cost on this machine as functions of their widths, into a file.

    A model of which all nodes are known is predicted from the file, at widths that nobody measured, too.
    """
    from graphprune.pipeline import profiling
    from graphprune.report.profiled import tables

    if bool(models) == (results is not None):
        hint = "graphprune profile MODEL -o FILE, or graphprune profile --from results -o FILE"
        raise ArgumentError("give models to measure, or --from", hint)
    if results is not None:
        show.result(profiling.profile_of_kit(results, output), tables)
        show.files([str(output)])
        return
    with show.progress() as progress:
        result = profiling.profile_machine(models, output, chosen.settings(progress=progress), inputs)
    show.result(result, tables)
    show.files([str(output)])
