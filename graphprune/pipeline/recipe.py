"""A recipe: a TOML file that stores a pipeline and the options it was run with.

pipeline = "prune(ratio=0.5, criterion=l1)"

[options]
seed = 1
tolerance = 0.0001

[options.shapes]
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

OptionValue = bool | int | float | Mapping[str, object]

OPTIONS: dict[str, type] = {
    "seed": int,
    "threads": int,
    "jobs": int,
    "tolerance": float,
    "verify_each": bool,
    "allow_short": bool,
    "bench": bool,
    "max_drop": float,
    "strict": bool,
    "shapes": dict,
    "fix": dict,
    "outputs": dict,
}
"""What a recipe may set beside the pipeline, and the type of each."""

KINDS = ("classes", "scores", "values")
"""How an output may be judged."""

_LIMIT = 2**20


@dataclass(frozen=True)
class Recipe:
    """A pipeline text and the options to run it with."""

    pipeline: str
    options: dict[str, OptionValue] = field(default_factory=dict)


def read(path: Path) -> Recipe:
    """A recipe from a file.

    Raises:
        ArgumentError: the file is unreadable, is not TOML, or holds something a recipe does not have.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ArgumentError(f"recipe '{path}' is larger than 1 MiB: that is not a recipe")
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ArgumentError(f"cannot read recipe '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise ArgumentError(f"recipe '{path}' is not UTF-8 text") from None


def parse(text: str, where: str = "recipe") -> Recipe:
    """A recipe from its text."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArgumentError(f"'{where}' is not TOML: {error}") from None
    except RecursionError:
        raise ArgumentError(f"'{where}' is not a recipe: its lists are nested too deeply") from None
    for key in table:
        if key not in ("pipeline", "options"):
            hint = did_you_mean(key, ("pipeline", "options"))
            raise ArgumentError(f"'{where}' has an unknown key '{key}'", hint)
    pipeline = table.get("pipeline")
    if isinstance(pipeline, list) and all(isinstance(stage, str) for stage in pipeline):
        pipeline = ", ".join(pipeline)
    if not isinstance(pipeline, str):
        raise ArgumentError(f"'{where}' has no pipeline", 'write: pipeline = "prune(ratio=0.5)"')
    options = table.get("options", {})
    if not isinstance(options, dict):
        raise ArgumentError(f"options of '{where}' is not a table")
    return Recipe(pipeline, {key: _option(key, value, where) for key, value in options.items()})


def _option(key: str, value: object, where: str) -> OptionValue:
    if key not in OPTIONS:
        raise ArgumentError(f"'{where}' has an unknown option '{key}'", did_you_mean(key, OPTIONS))
    wanted = OPTIONS[key]
    if wanted is dict and isinstance(value, dict):
        item = {"shapes": _shape, "fix": _content, "outputs": _kind}[key]
        return {str(name): item(name, each, where) for name, each in value.items()}
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted or not isinstance(value, bool | int | float):
        raise ArgumentError(f"option '{key}' of '{where}' is not a {wanted.__name__}")
    return value


def _shape(name: str, shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise ArgumentError(f"shape of '{name}' in '{where}' is not a list of dims")
    return tuple(shape)


def _content(name: str, content: object, where: str) -> object:
    """Numbers of an input, as a number or nested lists of them."""
    if isinstance(content, list):
        return [_content(name, each, where) for each in content]
    if not isinstance(content, bool | int | float):
        raise ArgumentError(f"fix of '{name}' in '{where}' is neither a number nor a list of numbers")
    return content


def _kind(name: str, kind: object, where: str) -> str:
    """How an output is judged."""
    if kind not in KINDS:
        raise ArgumentError(f"output '{name}' in '{where}' is none of {', '.join(KINDS)}")
    return str(kind)


def write(recipe: Recipe) -> str:
    """The text of a recipe, which reads back to the same recipe."""
    lines = [f"pipeline = {_string(recipe.pipeline)}"]
    tables = {key: value for key, value in recipe.options.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in recipe.options.items() if not isinstance(value, Mapping)}
    if plain:
        lines += ["", "[options]", *(f"{key} = {_plain(value)}" for key, value in plain.items())]
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
