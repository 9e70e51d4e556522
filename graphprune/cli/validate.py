"""`graphprune validate`: do two models agree?"""

from __future__ import annotations

from pathlib import Path

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.pipeline.settings import Comparing


@click.command("validate")
@click.argument("reference", type=options.path)
@click.argument("candidate", type=options.path)
@options.inputs("compare on; generated where not given")
@options.of(Comparing)
@options.printing("Print nothing but errors.", "Name the phases on stderr.")
def command(
    reference: str,
    candidate: str,
    inputs: Path | None,
    chosen: options.Chosen[Comparing],
    show: Show,
) -> int:
    """Run REFERENCE and CANDIDATE on the same inputs and compare every output; exit 1 if they disagree."""
    from graphprune.pipeline import agreement
    from graphprune.report.compared import tables

    names = (reference, candidate)
    with show.progress() as progress:
        result = agreement.compare(names, names, inputs, chosen.settings(progress=progress))
    show.result(result, tables)
    return 0 if result.ok else 1
