"""`graphprune bench-kit`: what measures the nodes of models on a machine that graphprune does not run on."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Packing


@click.command("bench-kit")
@click.argument("models", type=options.path, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="The kit, a folder that is not there yet.",
)
@options.inputs("run the models on; generated where not given")
@options.of(Packing)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    models: tuple[str, ...], output: Path, inputs: Path | None, chosen: options.Chosen[Packing], show: Show
) -> None:
    """Write a folder that times MODELS, at many widths, on a phone or board: python run.py in it.

    The script needs numpy and onnxruntime alone; the models go without their weights.
    graphprune profile --from reads what it writes.
    """
    from graphprune.pipeline import kit
    from graphprune.report.profiled import kit_tables

    with show.progress() as progress:
        result = kit.write_kit(models, output, chosen.settings(progress=progress), inputs)
    show.result(result, kit_tables)
    show.files([str(output)])
