"""`graphprune bench`: size and latency of models."""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options


@click.command("bench")
@click.argument("models", type=options.path, nargs=-1, required=True)
@options.inputs("time on; generated where not given")
@options.shapes()
@options.fix()
@options.seed()
@options.threads()
@options.timeout()
@options.limits()
@options.output_format()
def command(
    models: tuple[str, ...],
    inputs: str | None,
    shapes: dict[str, tuple[int, ...]],
    fix: dict[str, object],
    seed: int,
    threads: int,
    timeout: float,
    max_bytes: int | None,
    allow_external_links: bool,
    form: str,
) -> None:
    """Measure parameters, MACs, bytes and latency of MODELS, and compare each with the first."""
    from graphprune.cli.output import show_json, show_tables
    from graphprune.pipeline import benchmark
    from graphprune.pipeline.settings import Settings
    from graphprune.report.benched import tables

    settings = Settings(
        shapes=shapes,
        fix=fix,  # type: ignore[arg-type]
        seed=seed,
        threads=threads,
        timeout=timeout,
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
    )
    given = Path(inputs) if inputs is not None else None
    result = benchmark.bench(models, models, given, settings)
    if form == "json":
        show_json(result)
    else:
        show_tables(tables(result))
