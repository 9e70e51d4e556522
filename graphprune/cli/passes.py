"""`graphprune passes`: list the installed passes, or describe one."""

from __future__ import annotations

import click

from graphprune.cli import options


@click.command("passes")
@click.argument("name", required=False)
@options.output_format()
def command(name: str | None, form: str) -> None:
    """List the installed passes, or describe the pass NAME: what it does and its arguments."""
    from graphprune.cli.output import show_json, show_tables
    from graphprune.pipeline import catalogue
    from graphprune.report.described import listing, pass_tables

    if name is None:
        lines = catalogue.lines()
        return show_json({"passes": lines}) if form == "json" else show_tables([listing(lines)])
    described = catalogue.describe(name)
    return show_json(described) if form == "json" else show_tables(pass_tables(described))
