"""One option, stated once: what the command line, Python and recipes take for it, and say about it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from graphprune.errors import ArgumentError, did_you_mean, in_percent
from graphprune.ir.names import escape, quote
from graphprune.pipeline.durations import seconds
from graphprune.run import short

T = TypeVar("T")
UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1}
KINDS = ("classes", "scores", "values")
"""How an output of the model may be judged."""


@dataclass(frozen=True)
class Accepts:
    """What an option takes.

    In both methods `called` is what a message calls the option; they raise ArgumentError.

    Attributes:
        toml: a value as a recipe writes it, for people.
        metavar: what stands for a value in help; empty for a flag.
        several: whether each use of the option names one entry of a mapping.
    """

    toml: ClassVar[str] = ""
    metavar: str = ""
    several: bool = False

    def text(self, called: str, text: str) -> object:
        """A value as the command line writes it."""
        raise NotImplementedError

    def value(self, called: str, value: object) -> object:
        """A value as Python or a recipe gives it, checked."""
        raise NotImplementedError


@dataclass(frozen=True)
class Flag(Accepts):
    """True or false."""

    toml: ClassVar[str] = "`true` or `false`"

    def text(self, called: str, text: str) -> bool:
        """True where the flag is there; click reads it."""
        return text == "true"

    def value(self, called: str, value: object) -> bool:
        """A bool."""
        if not isinstance(value, bool):
            raise ArgumentError(f"{called} must be true or false, got {_shown(value)}")
        return value


@dataclass(frozen=True)
class Whole(Accepts):
    """A whole number that is not too small."""

    toml: ClassVar[str] = "a whole number"
    metavar: str = "N"
    least: int = 0

    def text(self, called: str, text: str) -> int:
        """Digits."""
        try:
            return self.value(called, int(text))
        except ValueError:
            raise ArgumentError(f"{called} must be a whole number, got '{escape(text)}'") from None

    def value(self, called: str, value: object) -> int:
        """An int, also one of numpy's."""
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ArgumentError(f"{called} must be a whole number, got {_shown(value)}")
        number = int(value.__index__())
        if number < self.least:
            raise ArgumentError(f"{called} must be at least {self.least}, got {number}")
        return number


@dataclass(frozen=True)
class Number(Accepts):
    """A positive number, or with `share` one in [0, 1]."""

    toml: ClassVar[str] = "a number"
    metavar: str = "X"
    share: bool = False

    def text(self, called: str, text: str) -> float:
        """As Python writes floats."""
        try:
            return self.value(called, float(text))
        except ValueError:
            hint = in_percent(text) if self.share else ""
            raise ArgumentError(f"{called} must be a number, got '{escape(text)}'", hint) from None

    def value(self, called: str, value: object) -> float:
        """A float, or what becomes one."""
        if isinstance(value, bool | str) or not hasattr(value, "__float__"):
            raise ArgumentError(f"{called} must be a number, got {_shown(value)}")
        number = float(value.__float__())
        if self.share and not 0 <= number <= 1:
            raise ArgumentError(f"{called} must be in [0, 1], got {number}")
        if not self.share and not 0 < number < math.inf:
            raise ArgumentError(f"{called} must be a positive number, got {number}")
        return number


@dataclass(frozen=True)
class Bytes(Accepts):
    """A size of a file: 500MB, 2GiB or a plain number."""

    toml: ClassVar[str] = '`"500MB"`, `"2GiB"` or bytes'
    metavar: str = "SIZE"

    def text(self, called: str, text: str) -> int:
        """A number and a unit."""
        lower = text.strip().lower()
        unit = next((unit for unit in UNITS if lower.endswith(unit)), "")
        try:
            number = float(lower.removesuffix(unit)) * UNITS.get(unit, 1)
        except ValueError:
            number = -1.0
        if not 1 <= number < 2**63:
            hint = "write bytes, or a number with a unit: 500MB, 2GiB"
            raise ArgumentError(f"{called} '{escape(text)}' is not a size", hint)
        return int(number)

    def value(self, called: str, value: object) -> int:
        """Bytes, or the text of the command line."""
        return self.text(called, value) if isinstance(value, str) else Whole(least=1).value(called, value)


@dataclass(frozen=True)
class Left(Accepts):
    """What may be left of a size: a share of it up to 1, or bytes."""

    toml: ClassVar[str] = '`0.5`, `"4MB"` or bytes'
    metavar: str = "SIZE"

    def text(self, called: str, text: str) -> float:
        """0.5, 500MB, 2GiB or a plain number of bytes."""
        try:
            return self.value(called, float(text))
        except ValueError:
            if share := in_percent(text):
                raise ArgumentError(f"{called} '{escape(text)}' is not a size", share) from None
            return Bytes().text(called, text)

    def value(self, called: str, value: object) -> float:
        """A number, or the text of the command line."""
        return self.text(called, value) if isinstance(value, str) else Number().value(called, value)


@dataclass(frozen=True)
class Word(Accepts):
    """One of some words."""

    words: tuple[str, ...] = ()

    def text(self, called: str, text: str) -> str:
        """As it is."""
        return self.value(called, text)

    def value(self, called: str, value: object) -> str:
        """A text that is one of them."""
        if isinstance(value, str) and value in self.words:
            return value
        raise ArgumentError(
            f"{called} must be one of {', '.join(self.words)}, got {_shown(value)}",
            did_you_mean(value, self.words) if isinstance(value, str) else "",
        )


@dataclass(frozen=True)
class Duration(Accepts):
    """How long: 30s, 10m, 1h, or a plain number of seconds."""

    toml: ClassVar[str] = '`"30s"`, `"10m"`, `"1h"` or seconds'
    metavar: str = "TIME"

    def text(self, called: str, text: str) -> float:
        """A number and a unit; seconds where there is none."""
        try:
            return seconds(called, float(text))
        except ValueError:
            return seconds(called, text)

    def value(self, called: str, value: object) -> float:
        """Seconds, or the text of the command line."""
        return self.text(called, value) if isinstance(value, str) else Number().value(called, value)


@dataclass(frozen=True)
class Text(Accepts):
    """Words that what they are for reads."""

    toml: ClassVar[str] = "a text"

    def text(self, called: str, text: str) -> str:
        """As it is."""
        return text

    def value(self, called: str, value: object) -> str:
        """A text."""
        if not isinstance(value, str):
            raise ArgumentError(f"{called} must be a text, got {_shown(value)}")
        return value


@dataclass(frozen=True)
class File(Accepts):
    """A path."""

    toml: ClassVar[str] = "a path"
    metavar: str = "FILE"

    def text(self, called: str, text: str) -> str:
        """As it is."""
        return text

    def value(self, called: str, value: object) -> str:
        """A path, or its text."""
        if not isinstance(value, str | os.PathLike):
            raise ArgumentError(f"{called} must be a path, got {_shown(value)}")
        return os.fsdecode(value)


@dataclass(frozen=True)
class Target(Accepts):
    """What a model is lowered for: a word, an instruction set that was measured, or a device profile."""

    toml: ClassVar[str] = "portable, native, an instruction set, or a path"
    metavar: str = "portable|native|NAME|FILE"

    def text(self, called: str, text: str) -> str:
        """As it is."""
        return self.value(called, text)

    def value(self, called: str, value: object) -> str:
        """The same text, if something is called so; files end in .json."""
        from graphprune.lowering.table import names

        found = os.fsdecode(value) if isinstance(value, str | os.PathLike) else ""
        if found.endswith(".json") or found in names():
            return found
        known = f"{', '.join(names())}, or a device profile (FILE.json)"
        hint = did_you_mean(found, names()) if found else ""
        raise ArgumentError(f"{called} must be one of {known}, got {_shown(value)}", hint)


def path_of(called: str, value: object) -> Path:
    """A path that Python gave.

    Raises:
        ArgumentError: it is none.
    """
    return Path(File().value(called, value))


@dataclass(frozen=True)
class Providers(Accepts):
    """Execution providers in an order, by their short or full names."""

    toml: ClassVar[str] = "a list of names"
    metavar: str = "NAME,..."

    def text(self, called: str, text: str) -> tuple[str, ...]:
        """Names between commas."""
        return self.value(called, [word.strip() for word in text.split(",")])

    def value(self, called: str, value: object) -> tuple[str, ...]:
        """A list of names, or the text of the command line; short names."""
        if isinstance(value, str):
            return self.text(called, value)
        if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
            raise ArgumentError(f"{called} must be a list of names, got {_shown(value)}")
        names = tuple(map(short, value))
        if not names or not all(names) or len({*names}) < len(names):
            raise ArgumentError(f"{called} must be names, each once, got {_shown(','.join(value))}")
        return names


@dataclass(frozen=True)
class Shapes(Accepts):
    """Dims by name of an input."""

    toml: ClassVar[str] = "a table: `NAME = [1, 3, 224, 224]`"
    metavar: str = "NAME=DIMS"
    several: bool = True

    def text(self, called: str, text: str) -> tuple[str, tuple[int, ...]]:
        """One name and its dims: x=1x3x224x224, x=1,3,224,224, or with a colon."""
        name, sign, dims = text.rpartition("=" if "=" in text else ":")  # names may hold colons: input:0
        try:
            shape = tuple(int(dim) for dim in re.split(r"\s*[x,]\s*", dims.lower())) if dims else ()
        except ValueError:
            shape = (-1,)
        if not sign or not name or not all(0 <= dim < 2**63 for dim in shape):
            hint = "sizes are whole numbers; none at all is a scalar: name="
            raise ArgumentError(f"{called} '{escape(text)}' is not name=1x3x224x224", hint)
        return name, shape

    def value(self, called: str, value: object) -> dict[str, tuple[int, ...]]:
        """A mapping of names to sequences of dims."""
        return {name: self._dims(called, name, dims) for name, dims in _items(called, value)}

    def _dims(self, called: str, name: str, dims: object) -> tuple[int, ...]:
        if isinstance(dims, Sequence) and not isinstance(dims, str) and all(map(_is_dim, dims)):
            return tuple(int(dim) for dim in dims)
        raise ArgumentError(f"{called}: shape of {quote(name)} is not a list of dims")


@dataclass(frozen=True)
class Contents(Accepts):
    """Numbers by name of an input."""

    toml: ClassVar[str] = "a table: `NAME = 16000`, `true` or nested lists"
    metavar: str = "NAME=VALUE"
    several: bool = True

    def text(self, called: str, text: str) -> tuple[str, object]:
        """A name and a number, true or false, or lists of them as JSON writes them."""
        name, equals, written = text.rpartition("=")
        try:
            content = json.loads(written)
        except (ValueError, RecursionError):
            content = None
        if not equals or not name or not isinstance(content, bool | int | float | list):
            raise ArgumentError(f"{called} '{escape(text)}' is not name=16000, name=true or name=[1,2]")
        return name, content

    def value(self, called: str, value: object) -> dict[str, object]:
        """A mapping of names to arrays, or what becomes one."""
        return {name: self._content(called, name, content) for name, content in _items(called, value)}

    def _content(self, called: str, name: str, content: object) -> object:
        if isinstance(content, list | tuple):
            return [self._content(called, name, each) for each in content]
        if isinstance(content, bool | int | float) or hasattr(content, "__array__"):
            return content
        raise ArgumentError(f"{called}: {quote(name)} holds no numbers")


@dataclass(frozen=True)
class Kinds(Accepts):
    """How outputs are judged, by their names."""

    toml: ClassVar[str] = 'a table: `NAME = "classes"`, `"scores"` or `"values"`'
    metavar: str = "NAME=KIND"
    several: bool = True

    def text(self, called: str, text: str) -> tuple[str, str]:
        """A name and a kind."""
        name, _, kind = text.rpartition("=")
        return name, self._kind(called, name, kind)

    def value(self, called: str, value: object) -> dict[str, str]:
        """A mapping of names to kinds."""
        return {name: self._kind(called, name, kind) for name, kind in _items(called, value)}

    def _kind(self, called: str, name: str, kind: object) -> str:
        if isinstance(kind, str) and kind in KINDS:
            return kind
        hint = did_you_mean(str(kind), KINDS)
        raise ArgumentError(f"{called}: {quote(name)} cannot be judged as {_shown(kind)}", hint)


def _items(called: str, value: object) -> Iterable[tuple[str, object]]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{called} must map names to values, got {_shown(value)}")
    return ((str(name), each) for name, each in value.items())


def _is_dim(dim: object) -> bool:
    return hasattr(dim, "__index__") and not isinstance(dim, bool) and 0 <= int(dim.__index__()) < 2**63


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else escape(repr(value))


@dataclass(frozen=True)
class Option:
    """What is known about a field of the settings.

    Attributes:
        name: of the field, and of the keyword in Python.
        accepts: its values; None where they are no text, so that only Python can give them.
        help: one sentence for people.
        usage: what the command line adds to it.
        flag: how the command line calls it; empty where no option of its own sets it.
        default: what help says is taken where nothing is given; empty where that says nothing.
        recipe: whether a file may set it.
        found: whether also one that was found, not named: it is no code, output, limit or link.
        rare: whether it stands last in help.
    """

    name: str
    accepts: Accepts | None
    help: str
    usage: str
    flag: str
    default: str
    recipe: bool
    found: bool
    rare: bool

    @property
    def command_help(self) -> str:
        """What help of the command line says."""
        text = f"{self.help.removesuffix('.')}, {self.usage}." if self.usage else self.help
        return f"{text}  [default: {self.default}]" if self.default else text

    def checked(self, called: str, value: object) -> object:
        """A value from Python or a recipe; None where the option may be left out.

        Raises:
            ArgumentError: it does not fit.
        """
        return value if self.accepts is None else self.accepts.value(called, value)


def option(
    default: T,
    accepts: Accepts | None,
    help: str,
    *,
    usage: str = "",
    flag: str | None = None,
    shown: str | None = None,
    recipe: bool = True,
    found: bool = True,
    rare: bool = False,
) -> T:
    """A field of the settings that is an option.

    Args:
        default: taken where nothing is given.
        accepts: what it may hold.
        help: one sentence.
        usage: what help of the command line adds to it.
        flag: of the command line; "--" and the field's name if None, no option if empty.
        shown: what help says about the default; the default itself if None.
        recipe: whether a file may set it.
        found: whether also one that was found, not named: it is no code, output, limit or link.
        rare: whether it stands last in help.
    """
    told: dict[str, object] = {"accepts": accepts, "help": help, "usage": usage, "flag": flag}
    told |= {"shown": shown, "recipe": recipe, "found": found, "rare": rare}
    if isinstance(default, Mapping):
        return cast(T, field(default_factory=dict, metadata=told))
    return field(default=default, metadata=told)


def options(kind: type) -> tuple[Option, ...]:
    """The options among the fields of a class of settings, in their order, rare ones last."""
    found = [_option(each) for each in dataclasses.fields(kind) if "accepts" in each.metadata]
    return tuple(sorted(found, key=lambda each: each.rare))


def _option(each: dataclasses.Field[object]) -> Option:
    told = each.metadata
    flag = told["flag"] if told["flag"] is not None else f"--{each.name.replace('_', '-')}"
    shown = told["shown"]
    if shown is None:
        plain = isinstance(each.default, int | float) and not isinstance(each.default, bool)
        shown = f"{each.default:g}" if plain else ""
    return Option(
        each.name,
        told["accepts"],
        told["help"],
        told["usage"],
        flag,
        shown,
        told["recipe"],
        told["found"],
        told["rare"],
    )
