"""`graphprune explain`: why things are as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphprune.cli import options
from graphprune.errors import ArgumentError

if TYPE_CHECKING:
    from graphprune.labels.options import LayerNorm


@click.command("explain")
@click.argument("subject", type=options.path)
@click.argument("name", required=False)
@click.argument("other", required=False)
@options.inputs("take shapes from")
@options.shapes()
@options.fix()
@options.analysis()
@options.limits()
@options.output_format()
def command(
    subject: str,
    name: str | None,
    other: str | None,
    inputs: str | None,
    shapes: dict[str, tuple[int, ...]],
    fix: dict[str, object],
    layernorm: LayerNorm,
    allow_inexact: bool,
    max_bytes: int | None,
    allow_external_links: bool,
    form: str,
) -> None:
    """Explain a group of a model, the coupling of two of its tensors, or a pass.

    \b
    graphprune explain model.onnx NAME        what NAME is removed together with, or what pins it
    graphprune explain model.onnx NAME OTHER  why NAME and OTHER shrink together: the path between them
    graphprune explain prune                  what a pass does

    NAME is a group, an initializer or a node, or a glob like layer1.*.
    """
    if name is None:
        return _pass(subject, form)
    from graphprune.cli.output import show_json, show_tables
    from graphprune.pipeline.explanation import explain
    from graphprune.pipeline.settings import Settings
    from graphprune.report.explained import tables

    settings = Settings(
        shapes=shapes,
        fix=fix,  # type: ignore[arg-type]
        max_bytes=max_bytes,
        allow_external_links=allow_external_links,
    )
    given = Path(inputs) if inputs is not None else None
    assumed = options.analysis_options(layernorm, allow_inexact)
    result = explain(subject, name, other, settings, assumed, given)
    return show_json({"groups": result}) if form == "json" else show_tables(tables(result))


def _pass(name: str, form: str) -> None:
    from graphprune.cli.output import show_json, show_tables
    from graphprune.ir.paths import exists
    from graphprune.pipeline import catalogue, registry
    from graphprune.report.described import pass_tables

    if exists(Path(name)) and name not in registry.names():
        hint = f"graphprune explain {name} NAME; `graphprune inspect` lists the groups"
        raise ArgumentError("say which group, initializer or node to explain", hint)
    described = catalogue.describe(name)
    return show_json(described) if form == "json" else show_tables(pass_tables(described))
