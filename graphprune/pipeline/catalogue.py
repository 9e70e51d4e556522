"""What is installed, in words: passes and criteria in a line each, or one pass in full."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields

from graphprune.doors import Door, is_ours, strays
from graphprune.errors import PluginError
from graphprune.ops import door
from graphprune.pipeline import criteria, registry
from graphprune.pipeline.passes import ArgumentHelp, Pass, arguments
from graphprune.prune.criteria import CRITERIA
from graphprune.shown import Shown

TAKEN = "has the name of one of ours, and cannot be used"


@dataclass(frozen=True)
class PassLine:
    """A pass or criterion in a list: its name and what it does, or why it cannot be used.

    `origin` is the package that it comes from; empty where it is ours.
    """

    name: str
    summary: str
    fault: str = ""
    origin: str = ""


@dataclass(frozen=True)
class PassHelp(Shown):
    """A pass in full: its documentation and its arguments."""

    name: str
    text: str
    arguments: tuple[ArgumentHelp, ...]


@dataclass(frozen=True)
class Installed(Shown):
    """Everything that is installed; `installed["prune"]` describes a pass in full."""

    passes: tuple[PassLine, ...]
    criteria: tuple[PassLine, ...]
    operators: tuple[PassLine, ...]
    others: tuple[PassLine, ...]

    @property
    def kinds(self) -> dict[str, tuple[PassLine, ...]]:
        """Lines by what they are of."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __iter__(self) -> Iterator[PassLine]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)

    def __getitem__(self, name: str) -> PassHelp:
        return describe(name)


def installed() -> Installed:
    """Every pass and criterion, ours first, the operators of other packages, and what is in no known group.

    What cannot be used says why, and hides no other.
    """
    passes = tuple(name for name, claims in registry.DOOR.entries().items() if is_ours(claims[0]))
    return Installed(
        passes=_listed(registry.DOOR, passes, lambda name: _text(registry.load(name))),
        criteria=_listed(criteria.DOOR, tuple(CRITERIA), lambda name: str(criteria.load(name))),
        operators=_listed(door.DOOR, (), lambda name: door.listed(name).labels),
        others=tuple(
            PassLine(entry.name, "", fault, entry.dist.name if entry.dist else "")
            for entry, fault in strays([each.group for each in (registry.DOOR, criteria.DOOR, door.DOOR)])
        ),
    )


def _listed(door: Door, own: Collection[str], text: Callable[[str], str]) -> tuple[PassLine, ...]:
    found = [PassLine(name, text(name).partition("\n")[0]) for name in own]
    for name, claims in door.entries().items():
        for entry in claims:
            if not is_ours(entry):
                summary, fault = ("", TAKEN) if name in own else _said(text, name)
                found.append(PassLine(name, summary, fault, door.origin(entry).package))
    return tuple(found)


def _said(text: Callable[[str], str], name: str) -> tuple[str, str]:
    """What something is, or why it cannot be used."""
    try:
        return text(name).partition("\n")[0], ""
    except PluginError as error:
        return "", error.fault


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
