"""`graphprune explain`: why things are as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.cli.output import Show
from graphprune.errors import ArgumentError
from graphprune.pipeline.settings import Looking

if TYPE_CHECKING:
    from graphprune.axes import Options


@click.command("explain")
@click.argument("subject", type=options.path)
@click.argument("name", required=False)
@click.argument("other", required=False)
@options.inputs("take shapes from")
@options.analysis()
@options.of(Looking)
@options.printing()
def command(
    subject: str,
    name: str | None,
    other: str | None,
    inputs: Path | None,
    assumed: Options,
    chosen: options.Chosen[Looking],
    show: Show,
) -> None:
    """Explain a group of a model, the coupling of two of its tensors, or a pass.

    \b
    graphprune explain model.onnx NAME        what NAME is removed together with, or what pins it
    graphprune explain model.onnx NAME OTHER  why NAME and OTHER shrink together: the path between them
    graphprune explain prune                  what a pass does

    NAME is a group, an initializer or a node, or a glob like layer1.*.
    """
    if name is None:
        return _pass(subject, show)
    from graphprune.pipeline.explanation import explain
    from graphprune.report.explained import tables

    found = explain(subject, name, other, chosen.settings(), assumed, inputs)
    return show.result(found, lambda each: tables(each.groups))


def _pass(name: str, show: Show) -> None:
    from graphprune.ir.paths import exists
    from graphprune.pipeline import catalogue, registry
    from graphprune.report.described import pass_tables

    if exists(Path(name)) and name not in registry.names():
        hint = f"graphprune explain {name} NAME; `graphprune inspect` lists the groups"
        raise ArgumentError("say which group, initializer or node to explain", hint)
    show.result(catalogue.describe(name), pass_tables)
