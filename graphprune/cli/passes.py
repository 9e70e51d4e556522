"""`graphprune passes`: list the installed passes and criteria, or describe a pass."""

from __future__ import annotations

import click

from graphprune.cli import options
from graphprune.cli.output import Show


@click.command("passes")
@click.argument("name", required=False)
@options.printing()
def command(name: str | None, show: Show) -> None:
    """List what is installed: passes, criteria, operators; or describe the pass NAME and its arguments."""
    from graphprune.pipeline import catalogue
    from graphprune.report.described import listings, pass_tables

    if name is None:
        return show.result(catalogue.installed(), lambda found: listings(found.kinds))
    return show.result(catalogue.describe(name), pass_tables)
