"""docs/json.md names every key of every document, with its type, and no other."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator

import pytest

from graphprune.pipeline.agreement import Comparison
from graphprune.pipeline.benchmark import Bench
from graphprune.pipeline.catalogue import PassHelp, PassLine
from graphprune.pipeline.checking import Check
from graphprune.pipeline.explanation import Explanation
from graphprune.pipeline.inspection import Inspection
from graphprune.pipeline.kit import Kit
from graphprune.pipeline.profiling import Profiled
from graphprune.pipeline.report import Report
from graphprune.tuning.sweep import Swept
from graphprune.tuning.tuned import Tuned

from .pages import ROOT

DOCUMENTS = (
    *(Report, Inspection, Explanation, PassLine, PassHelp, Comparison, Check, Bench, Kit, Profiled),
    *(Tuned, Swept),
)
WORDS = {object: "any", str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)


def children(kind: object) -> Iterator[type]:
    """Dataclasses anywhere inside a type."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
    for part in typing.get_args(kind):
        yield from children(part)


def classes() -> dict[str, type]:
    """Every class whose fields are keys of a document, by name."""
    found: dict[str, type] = {}
    work: list[type] = list(DOCUMENTS)
    while work:
        kind = work.pop()
        if kind.__name__ in found:
            continue
        found[kind.__name__] = kind
        work.extend(child for hint in typing.get_type_hints(kind).values() for child in children(hint))
    return found


def worded(kind: object) -> str:
    """A type as the page writes it."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(worded(part) for part in parts)
    if origin is tuple:
        assert parts[1:] == (Ellipsis,)
        return f"[{worded(parts[0])}]"
    if origin is dict:
        return f"{{{worded(parts[0])}: {worded(parts[1])}}}"
    if origin is typing.Literal:
        return WORDS[str]
    if isinstance(kind, type):
        return WORDS.get(kind, kind.__name__)
    raise TypeError(kind)


def documented() -> dict[str, dict[str, str]]:
    """Keys and types under every heading of the third level."""
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    parts = re.split(r"^### (\w+)\n", page, flags=re.MULTILINE)[1:]
    return {name: dict(ROW.findall(text)) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def test_every_class_is_documented_and_nothing_else() -> None:
    assert set(documented()) == set(classes())


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_key_has_its_type(name: str) -> None:
    hints = typing.get_type_hints(classes()[name])
    assert documented()[name] == {key: worded(hint) for key, hint in hints.items()}
