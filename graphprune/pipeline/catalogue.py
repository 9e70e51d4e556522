"""The installed passes in words: one line each, or one pass in full."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from graphprune.doors import PluginError
from graphprune.pipeline import registry
from graphprune.pipeline.passes import ArgumentHelp, Pass, arguments


@dataclass(frozen=True)
class PassLine:
    """A pass in a list: its name and the first line of its documentation, or why it does not load."""

    name: str
    summary: str
    fault: str = ""


@dataclass(frozen=True)
class PassHelp:
    """A pass in full: its documentation and its arguments."""

    name: str
    text: str
    arguments: tuple[ArgumentHelp, ...]


def lines() -> tuple[PassLine, ...]:
    """Every installed pass; one that does not load says so, and hides no other."""
    return tuple(_line(name) for name in registry.names())


def _line(name: str) -> PassLine:
    try:
        return PassLine(name, _text(registry.load(name)).splitlines()[0])
    except PluginError as error:
        return PassLine(name, "", error.fault)


def describe(name: str) -> PassHelp:
    """One pass in full.

    Raises:
        ArgumentError: no such pass.
    """
    kind = registry.load(name)
    return PassHelp(kind.name, _text(kind), arguments(kind))


def _text(kind: type[Pass]) -> str:
    # inspect.getdoc would inherit the text of the base, and dataclass invents a signature.
    own = kind.__dict__.get("__doc__") or ""
    return "no description" if not own or own.startswith(f"{kind.__name__}(") else inspect.cleandoc(own)
