"""`graphprune lower`: an equal graph that ONNX Runtime runs faster, without pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Lowering


@click.command("lower")
@click.argument("model", type=options.path)
@click.option("-o", "--output", type=options.path, metavar="FILE", help="Where the lowered model goes.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@options.inputs("prove and time it on; generated where not given")
@options.of(Lowering)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    model: str,
    output: str | None,
    force: bool,
    inputs: Path | None,
    chosen: options.Chosen[Lowering],
    show: Show,
) -> None:
    """Rewrite MODEL into an equal graph that ONNX Runtime runs faster, prove that it is equal, and save it.

    Nothing is pruned. What was rewritten stands in NAME.plan.json beside the output.
    """
    from graphprune.cli.output import after
    from graphprune.pipeline.compile import run
    from graphprune.pipeline.job import Job
    from graphprune.pipeline.settings import Settings
    from graphprune.report.compiled import tables

    if output is None:
        raise ArgumentError("no output: -o FILE says where the lowered model goes")
    with show.progress() as progress:
        asked, project = options.Chosen(Settings, chosen.given), chosen.project
        found = {} if project is None else project.recipe.of(Lowering)
        settings = asked.settings(found, {"bench": True}, force=force, progress=progress)
        config = () if project is None else (str(project.path),)
        job = Job(model=model, output=Path(output), inputs=inputs, lower=True)
        result = run(replace(job, config=config, also_read=tuple(map(Path, config))), settings)
    with after(result.report.files):
        show.result(result.report, lambda report: tables(report, show.verbose))
        show.files(result.report.files)
