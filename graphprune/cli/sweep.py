"""`graphprune sweep`: models times recipes times seeds as one table."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Sweeping


@click.command("sweep")
@click.argument("models", type=options.path, nargs=-1, required=True)
@click.option(
    "--passes", "pipelines", multiple=True, metavar="PIPELINE", help="A pipeline; repeat for several."
)
@click.option(
    "--recipe", "recipes", multiple=True, type=options.path, metavar="FILE.toml", help="A recipe; likewise."
)
@click.option("--seeds", default="0", show_default=True, metavar="N,...", help="Seeds of everything random.")
@options.data("--calibration", "Samples for recipes that name none.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Where rows are kept, a line of JSON each, as soon as they are there.",
)
@options.of(Sweeping, project=False)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    models: tuple[str, ...],
    pipelines: tuple[str, ...],
    recipes: tuple[str, ...],
    seeds: str,
    calibration: Path | None,
    output: Path | None,
    chosen: options.Chosen[Sweeping],
    show: Show,
) -> None:
    """Compile every one of MODELS by every recipe and seed, and print one table; no model is written."""
    from graphprune.pipeline import recipe, registry
    from graphprune.report.swept import tables
    from graphprune.tuning.sweep import Job, Swept, sweep

    named = {text: recipe.Recipe(text) for text in pipelines}
    for text in pipelines:
        registry.read(text)
    named |= {path: recipe.read(Path(path)) for path in recipes}
    with show.progress() as progress:
        job = Job(tuple(map(Path, models)), named, _seeds(seeds), calibration, output)
        rows = []
        for row in sweep(job, chosen.settings(progress=progress)):
            rows.append(row)
            progress(len(rows), len(models) * len(named) * len(job.seeds), "compile")
    show.result(Swept(tuple(rows)), tables)
    show.files([] if output is None else [str(output)])


def _seeds(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError:
        found = (-1,)
    if min(found) < 0:
        raise ArgumentError(f"--seeds '{text}' are no whole numbers", "write 0,1,2")
    return found
