"""A recipe: a TOML file that stores a pipeline, the options to run it with, and what is asked of the result.

pipeline = "prune(ratio=0.5, criterion=l1)"

[options]
seed = 1
calibration = "samples.npz"

[options.shape]
image = [1, 3, 224, 224]

[thresholds]
max-drop = 0.02
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.fixed import as_lists
from graphprune.ir.names import quote
from graphprune.pipeline import registry
from graphprune.pipeline.option import File, Option, options
from graphprune.pipeline.settings import Checking, Files, Settings, Timing
from graphprune.pipeline.stored import Toml, text

KEYS = ("pipeline", "options", "thresholds")


@dataclass(frozen=True)
class Recipe:
    """A pipeline text, the options to run it with, and what `check` asks.

    Attributes:
        pipeline: None where it names none.
        options: of the settings and of the files of a compile, by name.
        thresholds: of a check, by name.
        called: what messages call its pipeline.
    """

    pipeline: str | None
    options: dict[str, object] = field(default_factory=dict)
    thresholds: dict[str, object] = field(default_factory=dict)
    called: str = field(default="pipeline", compare=False)

    def of(self, kind: type) -> dict[str, object]:
        """What it says about the options of a class of settings.

        A check is held to the thresholds, and so is a compile where it has the same option.
        """
        found = _shared(self.options, settable(), kind)
        bounds = _shared(self.thresholds, asked(), kind)
        return {**found, **bounds} if issubclass(kind, Checking) else {**bounds, **found}


def _shared(said: Mapping[str, object], known: Mapping[str, Option], kind: type) -> dict[str, object]:
    """What is said of options that a class has, too; those of one name may be two, as their help tells."""
    mine = {each.name: each.help for each in options(kind)}
    return {name: value for name, value in said.items() if mine.get(name) == known[name].help}


def settable() -> dict[str, Option]:
    """What a recipe may set as options, by name."""
    known = (*options(Settings), *options(Files))
    return {each.name: each for each in known if each.recipe}


def asked() -> dict[str, Option]:
    """What a recipe may set as thresholds, by name: what a check has that other commands have not."""
    others = {each.name: each.help for each in options(Timing)}
    return {each.name: each for each in options(Checking) if others.get(each.name) != each.help}


def read(path: Path) -> Recipe:
    """A recipe from a file; relative paths in it are of the folder that it lies in.

    Raises:
        ArgumentError: the file is unreadable, is not TOML, or holds something a recipe does not have.
    """
    return parse(text(path, "recipe"), str(path), path.parent)


def parse(content: str, where: str = "recipe", folder: Path = Path()) -> Recipe:
    """A recipe from its text."""
    found = made(Toml(content, where, folder))
    if found.pipeline is None:
        raise ArgumentError(f"{quote(where)} has no pipeline", 'write: pipeline = "prune(ratio=0.5)"')
    return found


def made(toml: Toml, *table: str) -> Recipe:
    """The recipe that a table of a TOML file is, the whole file if not said.

    Raises:
        ArgumentError: it holds something a recipe does not have.
    """
    known = settable()
    for key in toml.table(*table):
        if key not in KEYS:
            hint = f"write it under [{'.'.join((*table, 'options'))}]" if key in known else ""
            at = toml.place(*table, key)
            raise ArgumentError(
                f"{quote(toml.where)} has an unknown key {quote(key)}{at}", hint or did_you_mean(key, KEYS)
            )
    at = toml.place(*table, "pipeline")
    return Recipe(
        _pipeline(toml, *table),
        toml.options(known, *table, "options"),
        toml.options(asked(), *table, "thresholds", noun="threshold"),
        f"pipeline of {quote(toml.where)}{at}",
    )


def _pipeline(toml: Toml, *table: str) -> str | None:
    """One text or a list of stages.

    Raises:
        ArgumentError: it is something else, or names code in a file that nobody named.
    """
    found = _stages(toml, *table)
    if toml.found and found is not None and (argument := registry.code_in(found)):
        raise ArgumentError(
            f"{quote(toml.where)} was found, not named, and so may not set {argument}, which runs code",
            "say it on the command line or in a --recipe; --no-config ignores the file",
        )
    return found


def _stages(toml: Toml, *table: str) -> str | None:
    found = toml.table(*table).get("pipeline")
    if isinstance(found, list) and all(isinstance(stage, str) for stage in found):
        return ", ".join(found)
    if found is None or isinstance(found, str):
        return found
    raise ArgumentError(
        f"the pipeline of {quote(toml.where)}{toml.place(*table, 'pipeline')} is no text",
        'write: pipeline = "prune(ratio=0.5)"',
    )


def of(pipeline: str, settings: Settings, files: Files | None = None) -> Recipe:
    """The recipe that repeats a compile."""
    said = {each.name: getattr(settings, each.name) for each in options(Settings)}
    said |= vars(files or Files()) | {"fix": as_lists(settings.fix)}
    found = {name: said[name] for name in settable()}
    return Recipe(
        pipeline, {name: value for name, value in found.items() if value is not None and value != {}}
    )


def moved(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe for a file in another folder: relative paths lead to where they led from here."""
    known = settable()
    paths = {
        name: os.path.relpath(str(value), folder)
        for name, value in recipe.options.items()
        if isinstance(known[name].accepts, File) and not Path(str(value)).is_absolute()
    }
    return Recipe(recipe.pipeline, {**recipe.options, **paths}, recipe.thresholds)


def write(recipe: Recipe) -> str:
    """The text of a recipe, which reads back to the same recipe."""
    lines = [f"pipeline = {_string(recipe.pipeline)}"] if recipe.pipeline is not None else []
    for name, table in (("options", recipe.options), ("thresholds", recipe.thresholds)):
        inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
        plain = {key: value for key, value in table.items() if key not in inner}
        parts = {name: plain, **{f"{name}.{key}": value for key, value in inner.items()}}
        for title, content in parts.items():
            if content or "." in title:
                lines += [
                    "",
                    f"[{title}]",
                    *(f"{key(each)} = {value(content[each])}" for each in content),
                ]
    return "\n".join(lines).lstrip("\n") + "\n"


def value(content: object) -> str:
    """A number, a text or nested lists of them as TOML."""
    if isinstance(content, list | tuple):
        return f"[{', '.join(map(value, content))}]"
    if isinstance(content, str):
        return _string(content)
    assert isinstance(content, bool | int | float)
    return str(content).lower() if isinstance(content, bool) else repr(content)


def key(name: str) -> str:
    """A key as TOML."""
    return name if name.isascii() and name.replace("_", "").isalnum() else _string(name)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped and no surrogate pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
