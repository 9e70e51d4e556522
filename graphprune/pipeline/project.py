"""Settings that were found, not named: graphprune.toml, or [tool.graphprune] of a pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphprune.errors import ArgumentError
from graphprune.pipeline import recipe
from graphprune.pipeline.recipe import Recipe
from graphprune.pipeline.stored import Toml, text

OWN, SHARED = "graphprune.toml", "pyproject.toml"
TABLE = ("tool", "graphprune")
_IGNORE = "--no-config ignores it"


@dataclass(frozen=True)
class Project:
    """A file that was found, and what it says."""

    path: Path
    recipe: Recipe


def find() -> Project | None:
    """The nearest file with settings, from the working folder upwards; None where there is none.

    The last folder that is looked at is the root of the repository, or home; outside of both the working
    folder alone, since anybody may write to what is above.

    Raises:
        ArgumentError: the file cannot be read, or says what it does not have or may not say.
    """
    for folder in _folders():
        own = folder / OWN
        if own.is_file():
            return _read(own)
        shared = folder / SHARED
        if shared.is_file() and (found := _read(shared, *TABLE)) is not None:
            return found
    return None


def _folders() -> Iterator[Path]:
    """As relative paths, so that nothing that is printed names folders of this machine."""
    try:
        here = Path.cwd()
    except OSError:  # the working folder is gone
        return
    above = [here, *here.parents]
    last = next((at for at, folder in enumerate(above) if _ends(folder)), 0)
    yield from (Path(*[os.pardir] * up) for up in range(last + 1))


def _ends(folder: Path) -> bool:
    try:
        return (folder / ".git").exists() or folder == Path.home()
    except (OSError, RuntimeError):  # nobody may look there, or nobody is at home
        return False


def _read(path: Path, *table: str) -> Project | None:
    """What a file says; None where it has no such table."""
    try:
        toml = Toml(text(path, "settings"), str(path), path.parent, found=True)
        if table and not toml.table(*table):
            return None
        return Project(path, recipe.made(toml, *table))
    except ArgumentError as error:
        known = "--no-config" in error.hint
        raise ArgumentError(error.message, error.hint if known else _also(error.hint)) from None


def _also(hint: str) -> str:
    return "; ".join(filter(None, (hint, _IGNORE)))
