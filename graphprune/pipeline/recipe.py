"""A recipe: a TOML file that stores a pipeline and the options it was run with.

pipeline = "prune(ratio=0.5, criterion=l1)"

[options]
seed = 1
tolerance = 0.0001

[options.shape]
image = [1, 3, 224, 224]

[options.fix]
sampling_rate = 16000

[options.outputs]
logits = "values"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.fixed import as_lists
from graphprune.pipeline.option import Option, options
from graphprune.pipeline.settings import Settings

_LIMIT = 2**20


@dataclass(frozen=True)
class Recipe:
    """A pipeline text and the options to run it with."""

    pipeline: str
    options: dict[str, object] = field(default_factory=dict)


def read(path: Path) -> Recipe:
    """A recipe from a file.

    Raises:
        ArgumentError: the file is unreadable, is not TOML, or holds something a recipe does not have.
    """
    return parse(text(path, "recipe"), str(path))


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
        raise ArgumentError(f"cannot read {noun} '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise ArgumentError(f"{noun} '{path}' is not UTF-8 text") from None


def parse(text: str, where: str = "recipe") -> Recipe:
    """A recipe from its text."""
    stored = table(text, where)
    for key in stored:
        if key not in ("pipeline", "options"):
            hint = did_you_mean(key, ("pipeline", "options"))
            raise ArgumentError(f"'{where}' has an unknown key '{key}'", hint)
    pipeline = stored.get("pipeline")
    if isinstance(pipeline, list) and all(isinstance(stage, str) for stage in pipeline):
        pipeline = ", ".join(pipeline)
    if not isinstance(pipeline, str):
        raise ArgumentError(f"'{where}' has no pipeline", 'write: pipeline = "prune(ratio=0.5)"')
    options = stored.get("options", {})
    if not isinstance(options, dict):
        raise ArgumentError(f"options of '{where}' is not a table")
    return Recipe(pipeline, {key: _option(key, value, where) for key, value in options.items()})


def table(text: str, where: str) -> dict[str, object]:
    """What a TOML text holds.

    Raises:
        ArgumentError: it is none.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"'{where}' is not TOML: {error}") from None
    except RecursionError:
        raise ArgumentError(f"'{where}' is not a recipe: its lists are nested too deeply") from None


def _option(key: str, value: object, where: str) -> object:
    known = settable()
    if key not in known:
        raise ArgumentError(f"'{where}' has an unknown option '{key}'", did_you_mean(key, known))
    return known[key].checked(f"option '{key}' of '{where}'", value)


def settable() -> dict[str, Option]:
    """What a recipe may set beside the pipeline, by name."""
    return {each.name: each for each in options(Settings) if each.recipe}


def of(pipeline: str, settings: Settings) -> Recipe:
    """The recipe that repeats a compile."""
    found = {name: getattr(settings, name) for name in settable()}
    found["fix"] = as_lists(settings.fix)
    return Recipe(
        pipeline, {name: value for name, value in found.items() if value is not None and value != {}}
    )


def write(recipe: Recipe) -> str:
    """The text of a recipe, which reads back to the same recipe."""
    lines = [f"pipeline = {_string(recipe.pipeline)}"]
    tables = {key: value for key, value in recipe.options.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in recipe.options.items() if not isinstance(value, Mapping)}
    if plain:
        lines += ["", "[options]", *(f"{key} = {_content_text(value)}" for key, value in plain.items())]
    for key, table in tables.items():
        lines += [
            "",
            f"[options.{key}]",
            *(f"{_string(name)} = {_content_text(content)}" for name, content in table.items()),
        ]
    return "\n".join(lines) + "\n"


def _content_text(content: object) -> str:
    if isinstance(content, list | tuple):
        return f"[{', '.join(map(_content_text, content))}]"
    if isinstance(content, str):
        return _string(content)
    assert isinstance(content, bool | int | float)
    return _plain(content)


def _plain(value: bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped and no surrogate pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
