"""`graphprune compile`: run a pipeline over a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from graphprune.cli import options
from graphprune.errors import ArgumentError, OutputError
from graphprune.ir.names import quote
from graphprune.run import Progress

if TYPE_CHECKING:
    from graphprune.pipeline.compile import Job, Result
    from graphprune.pipeline.recipe import Recipe
    from graphprune.pipeline.report import Report
    from graphprune.pipeline.settings import Settings


class _Given(TypedDict):
    """What the command line gave; None where it gave nothing and a recipe may."""

    output: options.Outputs
    pipeline: str | None
    recipe: str | None
    plan: str | None
    calibration: str | None
    statistics: str | None
    inputs: str | None
    shapes: dict[str, tuple[int, ...]]
    fix: dict[str, object]
    verify_each: bool | None
    allow_short: bool | None
    max_drop: float | None
    strict: bool | None
    tolerance: float | None
    force: bool
    sparse_initializers: bool
    keep_initializer_inputs: bool
    bench: bool | None
    print_plan: bool
    report_file: str | None
    reproducer: str | None
    seed: int | None
    threads: int | None
    jobs: int | None
    timeout: float
    max_bytes: int | None
    allow_external_links: bool
    form: str
    quiet: bool
    verbose: bool


@click.command("compile")
@click.argument("model", type=options.path)
@click.option(
    "-o",
    "--output",
    type=options.path,
    multiple=True,
    callback=options.outputs,
    metavar="FILE",
    help="Where the compiled model goes. NAME=classes, NAME=scores or NAME=values says how an output of the "
    "model is judged, where the report takes it for something else.",
)
@click.option(
    "--passes", "pipeline", metavar="PIPELINE", help='What to do, e.g. "prune(ratio=0.5, criterion=l1)".'
)
@click.option("--recipe", type=options.path, metavar="FILE.toml", help="A pipeline and options from a file.")
@click.option(
    "--plan", type=options.path, metavar="PLAN.json", help="Repeat the decisions of an earlier compile."
)
@click.option(
    "--calibration",
    type=options.path,
    metavar="DATA",
    help="Samples for criteria and repair; some are held back.",
)
@options.statistics()
@options.inputs("prove, time and judge the result on")
@options.shapes()
@options.fix()
@click.option(
    "--verify-each", is_flag=True, default=None, help="Check the graph after every pass, not only the last."
)
@click.option("--allow-short", is_flag=True, default=None, help="Write a model that misses its budget.")
@click.option(
    "--max-drop",
    type=float,
    callback=options.share,
    metavar="X",
    help="Largest drop of any output against the dense model, in [0, 1]; more is a missed budget.",
)
@click.option(
    "--strict", is_flag=True, default=None, help="Exit 1 where the samples cannot decide about --max-drop."
)
@click.option(
    "--tolerance",
    type=float,
    callback=options.positive,
    metavar="X",
    help="Bound of the proof, relative to the largest output.  [default: 1e-4]",
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option(
    "--sparse-initializers",
    is_flag=True,
    help="Write weights as sparse tensors where that is smaller; few tools beside ONNX Runtime read them.",
)
@click.option(
    "--keep-initializer-inputs",
    is_flag=True,
    help="Leave weights that are inputs as well on the list of inputs; runtimes then fold less.",
)
@click.option("--no-bench", "bench", flag_value=False, default=None, help="Do not measure latency.")
@click.option(
    "--print-plan", is_flag=True, help="Print the plan as JSON instead of the report; -o is then optional."
)
@click.option(
    "--report",
    "report_file",
    type=options.path,
    metavar="FILE",
    help="Also write the report: .html or .json.",
)
@click.option(
    "--reproducer", type=options.path, metavar="DIR", help="If the compile fails, store how to repeat it."
)
@click.option(
    "--seed",
    type=int,
    callback=options.at_least(0),
    metavar="N",
    help="Seed of everything random.  [default: 0]",
)
@click.option(
    "--threads",
    type=int,
    callback=options.at_least(1),
    metavar="N",
    help="Threads of ONNX Runtime where latency is measured.  [default: 1]",
)
@options.jobs()
@options.timeout()
@options.limits()
@options.output_format()
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Name the phases on stderr, and show pinned groups.")
def command(model: str, **given: Unpack[_Given]) -> None:
    """Run a pipeline of passes over MODEL, prove that it did what it says, and save the result.

    The plan goes beside the output as NAME.plan.json. An empty pipeline (--passes "") copies the
    model, or writes it with what --fix fixes.
    """
    from graphprune.cli.output import Progress, after
    from graphprune.pipeline.compile import run

    report = _report_path(model, given)
    with Progress(given["quiet"], given["verbose"]) as progress:
        job, settings = _job(model, given), _settings(given, progress)
        result = run(job, settings)
    with after(result.report.files):
        if report is not None:
            _write_report(report, result.report)
        if not given["quiet"]:
            _show(result, given)


def _job(model: str, given: _Given) -> Job:
    from graphprune.pipeline import planfile, registry
    from graphprune.pipeline.compile import Job

    wanted = [name for name in ("pipeline", "recipe", "plan") if given[name] is not None]
    if len(wanted) != 1:
        problem = "say what to do" if not wanted else "give only one"
        hint = 'for instance --passes "prune(ratio=0.5)"; `graphprune passes` lists the passes'
        raise ArgumentError(f"{problem}: --passes, --recipe or --plan", hint)
    if given["output"].file is None and not given["print_plan"]:
        raise ArgumentError(
            "no output: -o FILE says where the compiled model goes", "--print-plan works without"
        )
    recipe = _recipe(given)
    return Job(
        model=model,
        passes=registry.read(recipe.pipeline),
        plan=planfile.read(Path(given["plan"])) if given["plan"] is not None else None,
        output=Path(given["output"].file) if given["output"].file is not None else None,
        calibration=Path(given["calibration"]) if given["calibration"] is not None else None,
        inputs=Path(given["inputs"]) if given["inputs"] is not None else None,
        also_read=tuple(Path(name) for name in (given["plan"], given["recipe"]) if name is not None),
    )


def _recipe(given: _Given) -> Recipe:
    from graphprune.pipeline import recipe

    if given["recipe"] is not None:
        return recipe.read(Path(given["recipe"]))
    return recipe.Recipe(given["pipeline"] or "")


def _settings(given: _Given, progress: Progress) -> Settings:
    """The command line over the recipe over the defaults."""
    from graphprune.pipeline.recipe import OPTIONS
    from graphprune.pipeline.settings import Settings

    chosen = dict(_recipe(given).options)
    for name in OPTIONS.keys() - {"outputs"}:
        value = given[name]  # type: ignore[literal-required]
        if value is not None and value != {}:
            chosen[name] = value
    if given["output"].kinds:
        chosen["outputs"] = {**chosen.get("outputs", {}), **given["output"].kinds}  # type: ignore[dict-item]
    return Settings(
        **chosen,  # type: ignore[arg-type]
        overwrite=given["force"],
        sparse_initializers=given["sparse_initializers"],
        keep_initializer_inputs=given["keep_initializer_inputs"],
        timeout=given["timeout"],
        max_bytes=given["max_bytes"],
        allow_external_links=given["allow_external_links"],
        reproducer=Path(given["reproducer"]) if given["reproducer"] is not None else None,
        statistics=Path(given["statistics"]) if given["statistics"] is not None else None,
        progress=progress,
    )


def _show(result: Result, given: _Given) -> None:
    from graphprune.cli.output import say, show_json, show_tables
    from graphprune.ir.names import escape
    from graphprune.report.compiled import tables

    if given["print_plan"]:
        show_json(result.plan_file.to_json())
    elif given["form"] == "json":
        show_json(result.report.to_json())
    else:
        show_tables(tables(result.report, given["verbose"]))
    for name in result.report.files:
        say(f"wrote {escape(name)}")


def _report_path(model: str, given: _Given) -> Path | None:
    """Where the report goes, refused before any work if it cannot go there."""
    from graphprune.ir.publish import refuse_unsafe
    from graphprune.pipeline.output import plan_path

    if given["report_file"] is None:
        return None
    path = Path(given["report_file"])
    if path.suffix not in (".html", ".json"):
        raise ArgumentError(f"--report {quote(str(path))} ends neither in .html nor in .json")
    read = (model, given["plan"], given["recipe"], given["calibration"], given["inputs"])
    refuse_unsafe([path], [Path(name) for name in read if name is not None])
    if given["output"].file is not None and path.resolve() == plan_path(Path(given["output"].file)).resolve():
        raise OutputError(f"--report {quote(str(path))} is where the plan goes", "choose another name")
    return path


def _write_report(path: Path, report: Report) -> None:
    from graphprune.ir.publish import write_file
    from graphprune.report import html

    text = html.render(report) if path.suffix == ".html" else _json(report)
    write_file(path, text.encode())


def _json(report: Report) -> str:
    import json

    return json.dumps(report.to_json(), indent=2) + "\n"
