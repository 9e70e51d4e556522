"""`graphprune validate`: do two models agree?"""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options


@click.command("validate")
@click.argument("reference", type=options.path)
@click.argument("candidate", type=options.path)
@options.inputs("compare on; generated where not given")
@options.shapes()
@options.fix()
@click.option(
    "--tolerance",
    type=float,
    callback=options.positive,
    metavar="X",
    default=1e-4,
    show_default=True,
    help="Largest difference, relative to the output.",
)
@options.seed()
@options.threads()
@options.timeout()
@options.limits()
@options.output_format()
def command(
    reference: str,
    candidate: str,
    inputs: str | None,
    shapes: dict[str, tuple[int, ...]],
    fix: dict[str, object],
    tolerance: float,
    seed: int,
    threads: int,
    timeout: float,
    max_bytes: int | None,
    allow_external_links: bool,
    form: str,
) -> int:
    """Run REFERENCE and CANDIDATE on the same inputs and compare every output; exit 1 if they disagree."""
    from graphprune.cli.output import show_json, show_tables
    from graphprune.pipeline import agreement
    from graphprune.pipeline.settings import Settings
    from graphprune.report.compared import tables

    settings = Settings(
        shapes=shapes,
        fix=fix,  # type: ignore[arg-type]
        seed=seed,
        threads=threads,
        tolerance=tolerance,
        timeout=timeout,
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
    )
    given = Path(inputs) if inputs is not None else None
    names = (reference, candidate)
    result = agreement.compare(names, names, given, settings)
    if form == "json":
        show_json(result)
    else:
        show_tables(tables(result))
    return 0 if result.ok else 1
