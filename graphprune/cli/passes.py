"""`graphprune passes`: list the installed passes, or describe one."""

from __future__ import annotations

import click

from graphprune.cli import options
from graphprune.cli.output import Show


@click.command("passes")
@click.argument("name", required=False)
@options.printing()
def command(name: str | None, show: Show) -> None:
    """List the installed passes, or describe the pass NAME: what it does and its arguments."""
    from graphprune.pipeline import catalogue
    from graphprune.report.described import listing, pass_tables

    if name is None:
        return show.result({"passes": catalogue.lines()}, lambda each: [listing(each["passes"])])
    return show.result(catalogue.describe(name), pass_tables)
