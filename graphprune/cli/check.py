"""`graphprune check`: does a smaller model keep to what was asked of it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError, OutputError
from graphprune.ir.names import quote
from graphprune.pipeline.settings import Checking

if TYPE_CHECKING:
    from graphprune.pipeline.checking import Check, Job


@click.command("check")
@click.argument("reference", type=options.path)
@click.argument("candidate", type=options.path)
@options.inputs("measure on")
@click.option(
    "--metric",
    metavar="MODULE:FUNCTION",
    help="A metric of your own: takes the path of a model, returns a number or one per sample.",
)
@click.option(
    "--thresholds", type=options.path, metavar="FILE.toml", help="Thresholds from a file; options win."
)
@click.option(
    "--baseline",
    type=options.path,
    metavar="FILE.json",
    help="An earlier --report FILE.json: no figure in it may have become worse than its interval.",
)
@click.option(
    "--report",
    "reports",
    type=options.path,
    multiple=True,
    metavar="FILE",
    help="Also write the result: .json, .md or .xml (JUnit); repeat for several.",
)
@click.option("--force", is_flag=True, help="Replace reports that exist.")
@options.of(Checking)
@options.printing(
    "Print nothing but errors.", "Name the phases on stderr.", more=("markdown", "github", "junit")
)
def command(
    reference: str,
    candidate: str,
    inputs: Path | None,
    metric: str | None,
    thresholds: str | None,
    baseline: str | None,
    reports: tuple[str, ...],
    force: bool,
    chosen: options.Chosen[Checking],
    show: Show,
) -> int:
    """Measure CANDIDATE against the dense REFERENCE and judge it by thresholds; exit 1 if one fails."""
    from graphprune.pipeline import checking
    from graphprune.pipeline.thresholds import read
    from graphprune.report.checked import FORMS, tables

    named = [name for name in (reference, candidate, thresholds, baseline) if name is not None]
    paths = _report_paths(reports, [*map(Path, named), *filter(None, [inputs])], force)
    with show.progress() as progress:
        below = read(Path(thresholds)) if thresholds is not None else {}
        job = _job((reference, candidate), inputs, metric, baseline)
        result = checking.check(job, chosen.settings(below, progress=progress))
    _write(paths, result)
    show.result(result, tables, forms=FORMS)
    return 0 if result.ok else 1


def _job(names: tuple[str, str], inputs: Path | None, metric: str | None, baseline: str | None) -> Job:
    from graphprune.pipeline import thresholds
    from graphprune.pipeline.checking import Job
    from graphprune.pipeline.metric import load

    return Job(
        models=names,
        names=names,
        inputs=inputs,
        metric=load(metric) if metric is not None else None,
        baseline=thresholds.baseline(Path(baseline)) if baseline is not None else None,
    )


def _report_paths(names: Sequence[str], read: Sequence[Path], force: bool) -> list[Path]:
    """Where reports go, refused before any work if one cannot go there."""
    from graphprune.ir.paths import exists
    from graphprune.ir.publish import refuse_unsafe
    from graphprune.report.checked import FILES

    paths = [Path(name) for name in names]
    for path in paths:
        if path.suffix not in FILES:
            raise ArgumentError(f"--report {quote(str(path))} ends in none of {', '.join(FILES)}")
        if exists(path) and not force:
            raise OutputError(f"the report {quote(str(path))} exists", "choose another name, or use --force")
    refuse_unsafe(paths, read)
    return paths


def _write(paths: Sequence[Path], result: Check) -> None:
    from graphprune.ir.publish import write_file
    from graphprune.report.checked import FILES

    for path in paths:
        write_file(path, f"{FILES[path.suffix](result)}\n".encode())
