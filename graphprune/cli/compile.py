"""`graphprune compile`: run a pipeline over a model."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError, OutputError
from graphprune.ir.names import listed, quote
from graphprune.ir.nearby import nearby
from graphprune.pipeline.settings import Files, Settings

if TYPE_CHECKING:
    from graphprune.pipeline.job import Job
    from graphprune.pipeline.passes import Pass
    from graphprune.pipeline.project import Project
    from graphprune.pipeline.recipe import Recipe
    from graphprune.pipeline.report import Report
    from graphprune.pipeline.result import Result


_TYPED = "graphprune.typed"
PIPE = "-"
_USUAL = {"bench": True}
_ENOUGH = frozenset({"fix", "set_shape"})
"""Options that are enough to do without any pass."""
_LONGEST = 2**20


class _Given(TypedDict):
    """What the command line gave besides settings."""

    output: options.Outputs
    pipelines: tuple[str, ...]
    recipe: str | None
    plan: str | None
    print_plan: bool


class _Command(click.Command):
    """Keeps what was typed, for the line that a hint finishes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does."""
        ctx.meta[_TYPED] = tuple(args)
        return super().parse_args(ctx, args)


@click.command("compile", cls=_Command, context_settings={"allow_extra_args": True})
@click.argument("model", type=options.path)
@click.option(
    "-o",
    "--output",
    type=options.path,
    multiple=True,
    callback=options.outputs,
    metavar="FILE",
    help="Where the compiled model goes; - is stdout. NAME=classes, NAME=scores or NAME=values says how an "
    "output of the model is judged, where the report takes it for something else.",
)
@click.option(
    "--passes",
    "pipelines",
    multiple=True,
    metavar="PIPELINE",
    help='What to do, e.g. "prune(ratio=0.5, criterion=l1)"; several run in order; @FILE reads one.',
)
@click.option("--recipe", type=options.path, metavar="FILE.toml", help="A pipeline and options from a file.")
@click.option(
    "--plan", type=options.path, metavar="PLAN.json", help="Repeat the decisions of an earlier compile."
)
@options.of(Files, "paths", project=False)
@click.option(
    "--print-plan", is_flag=True, help="Print the plan as JSON instead of the report; -o is then optional."
)
@options.of(Settings)
@options.printing("Print nothing but errors.", "Name the phases on stderr, and show pinned groups.")
def command(
    model: str,
    chosen: options.Chosen[Settings],
    paths: options.Chosen[Files],
    show: Show,
    **given: Unpack[_Given],
) -> None:
    """Run a pipeline of passes over MODEL, prove that it did what it says, and save the result.

    The plan goes beside the output as NAME.plan.json. An empty pipeline (--passes "") copies the
    model, or writes it with what --fix fixes.
    """
    from graphprune.cli.output import after, send_model
    from graphprune.pipeline.compile import run

    recipe = _recipe(chosen, given)
    files = _files(replace(paths, project=chosen.project), recipe, given)
    kinds = {"outputs": given["output"].kinds} if given["output"].kinds else {}
    with show.progress() as progress:
        settings = chosen.settings(recipe.of(Settings), _USUAL, **kinds, progress=progress)
        if files.output == PIPE:
            _require_pipe(given, settings, show)
            show = replace(show, err=True)
        job = _job(model, recipe, files, given, chosen.project)
        _require_report(job, settings.force)
        if job.report is not None and job.report.suffix == ".html" and settings.bench:
            settings = replace(settings, time=True)
        result = run(job, settings)
    with after(result.report.files):
        if job.report is not None:
            _write_report(job.report, result.report)
        if files.output == PIPE:
            send_model(result.model, result.copied)
        if not show.quiet:
            _show(result, given["print_plan"], show)


def _recipe(chosen: options.Chosen[Settings], given: _Given) -> Recipe:
    """What to do and how: of the command line, else of a recipe, else of a file that was found.

    Raises:
        ArgumentError: more than one model, more than one pipeline, or none; the message says what to type.
    """
    from graphprune.pipeline import recipe

    context = click.get_current_context()
    if context.args:
        raise _too_many(context.meta[_TYPED], context.args, given)
    found = chosen.project.recipe if chosen.project is not None else recipe.Recipe(None)
    wanted = [name for name in ("pipelines", "recipe", "plan") if given[name] not in (None, ())]
    enough = found.pipeline is not None or bool({**found.options, **chosen.given}.keys() & _ENOUGH)
    if len(wanted) > 1 or not (wanted or enough):
        problem = "say what to do" if not wanted else "give only one"
        hint = 'for instance --passes "prune(ratio=0.5)"; `graphprune passes` lists the passes'
        raise ArgumentError(f"{problem}: --passes, --recipe or --plan", hint)
    if given["recipe"] is not None:
        return recipe.read(Path(given["recipe"]))
    return recipe.Recipe(None if wanted else found.pipeline or "", called=found.called)


def _files(paths: options.Chosen[Files], recipe: Recipe, given: _Given) -> Files:
    """What is read and written.

    Raises:
        ArgumentError: nobody said where the model goes.
    """
    name = given["output"].file
    files = paths.settings({**recipe.of(Files), **({} if name is None else {"output": name})})
    if files.output is None and not given["print_plan"]:
        raise ArgumentError(
            "no output: -o FILE says where the compiled model goes", "--print-plan works without"
        )
    return files


def _require_pipe(given: _Given, settings: Settings, show: Show) -> None:
    """Refuse a model on stdout where it cannot be one.

    Raises:
        ArgumentError: stdout is a terminal, or something else goes there.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        raise ArgumentError("-o - writes the model to stdout, which is a terminal", "-o FILE, or a pipe")
    if show.form == "json" or given["print_plan"]:
        other = "--format json" if show.form == "json" else "--print-plan"
        raise ArgumentError(f"-o - and {other} both write to stdout", "--report FILE.json, or -o FILE")
    if settings.sparse_initializers:
        raise ArgumentError("--sparse-initializers is checked on the written file", "-o FILE")


def _too_many(typed: tuple[str, ...], extra: list[str], given: _Given) -> ArgumentError:
    """More than one model: the second is where the result goes, as other tools have it."""
    if _unquoted(typed) is None and (len(extra) > 1 or given["output"].file is not None):
        return ArgumentError(f"there is one model too many: {listed(extra)}", "compile takes one MODEL")
    words = list(typed)
    whole = _unquoted(words)
    if whole is not None:
        line = f"graphprune compile {shlex.join(whole)}"
        return ArgumentError("the shell took the pipeline apart at its spaces: quote it", line)
    at = len(words) - 1 - words[::-1].index(extra[0])
    words.insert(at, "-o")
    if not (given["pipelines"] or given["recipe"] or given["plan"]):
        words += ["--passes", "prune(ratio=0.5)"]
    return ArgumentError(
        f"{quote(extra[0])}: the output goes behind -o", f"graphprune compile {shlex.join(words)}"
    )


def _unquoted(words: Sequence[str]) -> list[str] | None:
    """The words with a pipeline that spaces took apart in one piece again; None where there is none."""
    for at, word in enumerate(words):
        if word.startswith("--passes=") or (at and words[at - 1] == "--passes"):
            for end in range(at + 1, len(words) + 1):
                text = " ".join(words[at:end])
                if text.count("(") == text.count(")"):
                    break
            if end > at + 1 and text.count("(") == text.count(")"):
                return [*words[:at], text, *words[end:]]
    return None


def _job(model: str, recipe: Recipe, files: Files, given: _Given, project: Project | None) -> Job:
    from graphprune.pipeline import planfile, registry
    from graphprune.pipeline.job import Job

    texts = tuple(map(_text, given["pipelines"]))
    passes = tuple(item for text in texts for item in registry.read(text)) if texts else _passes(recipe)
    config = [*filter(None, [given["recipe"]]), *([str(project.path)] if project is not None else [])]
    return Job(
        model=model,
        passes=passes,
        plan=planfile.read(Path(given["plan"])) if given["plan"] is not None else None,
        output=None if files.output in (None, PIPE) else Path(files.output),
        calibration=_path(files.calibration),
        general=_path(files.general),
        selection=_path(files.selection),
        inputs=_path(files.inputs),
        also_read=tuple(map(Path, [*filter(None, [given["plan"]]), *config])),
        report=_path(files.report),
        command=shlex.join(("graphprune", "compile", *click.get_current_context().meta[_TYPED])),
        config=tuple(config),
    )


def _passes(recipe: Recipe) -> tuple[Pass, ...]:
    """Those of a file, whose name and line stand in front of what is wrong with them."""
    from graphprune.pipeline import registry

    try:
        return registry.read(recipe.pipeline or "")
    except ArgumentError as error:
        raise ArgumentError(f"{recipe.called}: {error.message}", error.hint) from None


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _text(pipeline: str) -> str:
    """A pipeline, or what is in the file that @FILE names, which no shell can spoil.

    Raises:
        ArgumentError: the file cannot be read, or is no text.
    """
    if not pipeline.startswith("@"):
        return pipeline
    path = Path(pipeline[1:])
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LONGEST)
    except OSError as error:
        problem = f"cannot read the pipeline {quote(str(path))}: {error.strerror}"
        raise ArgumentError(problem, nearby(path)) from None
    except UnicodeDecodeError:
        raise ArgumentError(f"the pipeline {quote(str(path))} is not UTF-8 text") from None


def _show(result: Result, plan: bool, show: Show) -> None:
    from graphprune.cli.output import show_json
    from graphprune.report.compiled import tables

    if plan:
        show_json(result.plan_file.to_json())
    else:
        show.result(result.report, lambda report: tables(report, show.verbose))
    show.files(result.report.files)


def _require_report(job: Job, force: bool) -> None:
    """Refuse a report before any work if it cannot go where it should."""
    from graphprune.ir.paths import exists
    from graphprune.ir.publish import refuse_unsafe
    from graphprune.pipeline.output import plan_path

    path = job.report
    if path is None:
        return
    if path.suffix not in (".html", ".json"):
        raise ArgumentError(f"--report {quote(str(path))} ends neither in .html nor in .json")
    refuse_unsafe([path], [Path(job.source), *job.files])
    if job.output is not None and path.resolve() == plan_path(job.output).resolve():
        raise OutputError(f"--report {quote(str(path))} is where the plan goes", "choose another name")
    if exists(path) and not force:
        raise OutputError(f"the report {quote(str(path))} exists", "choose another name, or use --force")


def _write_report(path: Path, report: Report) -> None:
    from graphprune.ir.publish import write_file
    from graphprune.report import html

    text = html.render(report) if path.suffix == ".html" else _json(report)
    write_file(path, text.encode())


def _json(report: Report) -> str:
    import json

    return json.dumps(report.to_json(), indent=2) + "\n"
