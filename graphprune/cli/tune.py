"""`graphprune tune`: the fastest model at a bound loss, in one command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Tuning

if TYPE_CHECKING:
    from graphprune.cli.output import Progress
    from graphprune.tuning.case import Job
    from graphprune.tuning.search import Search
    from graphprune.tuning.tuned import Tuned


@click.command("tune")
@click.argument("model", type=options.path)
@click.option(
    "-o",
    "--output",
    type=options.path,
    multiple=True,
    callback=options.outputs,
    metavar="FILE",
    help="Where the result goes. NAME=classes, NAME=scores or NAME=values says how an output of the model is "
    "judged, where the first line takes it for something else.",
)
@options.data("--calibration", "Unlabelled samples: half repair, a quarter chooses, a quarter reports.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Also write the report: .html or .json."
)
@options.of(Tuning)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    model: str,
    output: options.Outputs,
    calibration: Path | None,
    report: Path | None,
    chosen: options.Chosen[Tuning],
    show: Show,
) -> None:
    """Search for the fastest model whose outputs lose at most --max-drop against MODEL, and save it.

    Nothing else need be said: passes, amounts and repair are what is searched. The study beside the output
    holds a recipe per candidate, each of which makes its model alone; --resume goes on with it.
    """
    from graphprune.cli.output import after
    from graphprune.report.tuned import tables
    from graphprune.tuning.case import Job
    from graphprune.tuning.search import Search

    project = chosen.project
    if calibration is None and project is not None and "calibration" in project.recipe.options:
        calibration = Path(str(project.recipe.options["calibration"]))
    kinds = {"outputs": output.kinds} if output.kinds else {}
    with show.progress() as progress:
        settings = chosen.settings(**kinds, progress=progress)
        if output.file is None and not settings.dry_run:
            raise ArgumentError("no output: -o FILE says where the result goes")
        read = (Path(str(project.path)),) if project is not None else ()
        job = Job(model, calibration, _path(output), read)
        _require_report(report, settings.force)
        if settings.dry_run:
            _foresee(job, settings, show)
            return
        found = _searched(Search(job, settings), show, progress)
    with after(found.files):
        if report is not None:
            _write(report, found)
        show.result(found, tables)
        show.files(found.files)
    if not found.met or (settings.strict and not found.certain):
        raise click.exceptions.Exit(1)


def _foresee(job: Job, settings: Tuning, show: Show) -> None:
    from graphprune.report.tuned import foreseen
    from graphprune.tuning.foreseen import foresee

    show.result(foresee(job, settings), foreseen)


def _path(output: options.Outputs) -> Path | None:
    return None if output.file is None else Path(output.file)


def _searched(search: Search, show: Show, progress: Progress) -> Tuned:
    """Runs a search, a line for every candidate."""
    from graphprune.report.tuned import HEADING, judged, line

    bound = search.settings.max_drop or 0.0
    for number, trial in enumerate(search):
        assert search.history is not None
        left = None if search.due is None else search.due - time.monotonic()
        share = search.history.share(trial) if trial.made else None
        if not (show.quiet or number):
            progress.say(judged(tuple(search.case.judged), bound))
            progress.say(HEADING)
        if not show.quiet:
            progress.say(line(trial, share, search.history.dense, left))
    return search.finish()


def _require_report(path: Path | None, force: bool) -> None:
    """Refuse a report before any work if it cannot go where it should."""
    from graphprune.errors import OutputError
    from graphprune.ir.names import quote
    from graphprune.ir.paths import exists

    if path is not None and path.suffix not in (".html", ".json"):
        raise ArgumentError(f"--report {quote(str(path))} ends neither in .html nor in .json")
    if path is not None and exists(path) and not force:
        raise OutputError(f"the report {quote(str(path))} exists", "choose another name, or use --force")


def _write(path: Path, found: Tuned) -> None:
    import json

    from graphprune.ir.publish import write_file

    text = found.to_html() if path.suffix == ".html" else json.dumps(found.to_json(), indent=2) + "\n"
    write_file(path, text.encode())
