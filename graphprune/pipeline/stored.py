"""Settings that a TOML file stores: read, checked, with the line of a mistake."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.names import quote
from graphprune.ir.nearby import nearby
from graphprune.pipeline.option import File, Option

_LIMIT = 2**20
_LONGEST_VALUE = 200
"""Lines that a value may take before its line is not looked for any more."""


def text(path: Path, noun: str) -> str:
    """The text of a small file.

    Raises:
        ArgumentError: it cannot be read, is too large to be a `noun`, or no text.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ArgumentError(f"{noun} '{path}' is larger than 1 MiB: that is not a {noun}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"cannot read {noun} '{path}': {error.strerror}", nearby(path)) from None
    except UnicodeDecodeError:
        raise ArgumentError(f"{noun} '{path}' is not UTF-8 text") from None


@dataclass(frozen=True)
class Toml:
    """A TOML text.

    Attributes:
        text: what the file holds.
        where: how messages call it.
        folder: what relative paths in it start from.
        found: whether nobody named it, so that it may set less.
    """

    text: str
    where: str = "recipe"
    folder: Path = Path()
    found: bool = False

    @cached_property
    def content(self) -> dict[str, object]:
        """What it says.

        Raises:
            ArgumentError: it is no TOML.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise ArgumentError(f"{quote(self.where)} is not TOML: {error}") from None
        except RecursionError:
            problem = "is not a recipe: its lists are nested too deeply"
            raise ArgumentError(f"{quote(self.where)} {problem}") from None

    def place(self, *keys: str) -> str:
        """Where a key stands, to go behind a message."""
        line = self.line(keys)
        return f" (line {line})" if line else ""

    def line(self, keys: tuple[str, ...]) -> int | None:
        """The first line after which the keys lead to something, and that names the last of them."""
        lines = self.text.splitlines()
        for at, each in enumerate(lines):
            if keys[-1] in each and _leads(_prefix(lines, at), keys):
                return at + 1
        return None

    def table(self, *keys: str) -> dict[str, object]:
        """The table that keys lead to; empty where there is none.

        Raises:
            ArgumentError: it is something else.
        """
        found: object = self.content
        for key in keys:
            found = found.get(key, {}) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise ArgumentError(f"{keys[-1]} of {quote(self.where)}{self.place(*keys)} is not a table")
        return found

    def options(self, known: Mapping[str, Option], *keys: str, noun: str = "option") -> dict[str, object]:
        """The options of a table, checked; `-` and `_` are equal in their names.

        Raises:
            ArgumentError: one is not known, does not fit, or may not be set by a file like this.
        """
        result: dict[str, object] = {}
        for key, value in self.table(*keys).items():
            name, at = key.replace("-", "_"), self.place(*keys, key)
            if name not in known:
                raise ArgumentError(
                    f"{quote(self.where)} has an unknown {noun} {quote(key)}{at}", did_you_mean(name, known)
                )
            if name in result:
                raise ArgumentError(f"{quote(self.where)} sets {quote(name)} twice{at}")
            self._require_allowed(known[name], key, at)
            called = f"{noun} {quote(key)} of {quote(self.where)}{at}"
            result[name] = self._checked(known[name], called, value)
        return result

    def _checked(self, item: Option, called: str, value: object) -> object:
        checked = item.checked(called, value)
        return str(self.folder / str(checked)) if isinstance(item.accepts, File) else checked

    def _require_allowed(self, item: Option, key: str, at: str) -> None:
        """Refuse what only a file that was named may say: code, outputs, limits, links."""
        if self.found and not item.found:
            raise ArgumentError(
                f"{quote(self.where)} was found, not named, and so may not set {quote(key)}{at}",
                "say it on the command line or in a --recipe; --no-config ignores the file",
            )


def _prefix(lines: list[str], at: int) -> Mapping[str, object]:
    """What is said up to a line, and by as many more as its value needs to end."""
    for end in range(at + 1, min(len(lines), at + _LONGEST_VALUE) + 1):
        try:
            return tomllib.loads("\n".join(lines[:end]))
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
    return {}


def _leads(content: object, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True
