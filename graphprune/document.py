"""A JSON object of a file that anybody may have edited: what it lacks, or holds wrong, is said in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from graphprune.errors import ArgumentError
from graphprune.ir.names import escape, quote

T = TypeVar("T", str, int, float, bool)
KINDS: Mapping[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Document:
    """A JSON object.

    Attributes:
        content: what stands in it.
        where: what messages call the whole.
        at: the way to this object in it.
    """

    content: Mapping[str, object]
    where: str
    at: str = ""

    def one(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A single value.

        Raises:
            ArgumentError: it is missing, or of another kind.
        """
        if key not in self.content and default is not None:
            return default
        return cast(T, self._checked(self._found(key), kind, f"'{key}'"))

    def many(self, key: str, kind: type[T], needed: bool = False) -> tuple[T, ...]:
        """A list of values of one kind; empty where it is missing, and not needed."""
        given = self._found(key) if needed else self.content.get(key, [])
        found = self._checked(given, list, f"'{key}'")
        each = f"something in '{key}'"
        return tuple(cast(T, self._checked(value, kind, each)) for value in cast("list[object]", found))

    def part(self, key: str) -> Document:
        """An object within."""
        found = self._checked(self._found(key), dict, f"'{key}'")
        return self._within(found, key)

    def parts(self, key: str) -> Iterator[Document]:
        """A list of objects."""
        found = cast("list[object]", self._checked(self._found(key), list, f"'{key}'"))
        for at, each in enumerate(found):
            self._checked(each, dict, f"item {at} of '{key}'")
            yield self._within(each, f"{key}[{at}]")

    def wrong(self, reason: str, hint: str = "") -> ArgumentError:
        """The error that says where."""
        return ArgumentError(f"{self.where}{self.at and f' at {escape(self.at)}'} {reason}", hint)

    def _within(self, found: object, key: str) -> Document:
        at = f"{self.at}.{key}" if self.at else key
        return Document(cast("dict[str, object]", found), self.where, at)

    def _found(self, key: str) -> object:
        if key not in self.content:
            raise self.wrong(f"has no '{key}'")
        return self.content[key]

    def _checked(self, value: object, kind: type, what: str) -> object:
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(f"is damaged: {what} is not {KINDS[kind]}")
        return value


def load(path: Path) -> Document:
    """The object that a file holds.

    Raises:
        ArgumentError: it cannot be read, or holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"cannot read {quote(str(path))}: {(error.strerror or '').lower()}") from error
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ArgumentError(f"{quote(str(path))} is damaged: it holds no JSON object")
    return Document(content, quote(str(path)))
