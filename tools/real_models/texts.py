"""Text of four kinds from Debian packages and Python's library, in halves that share no document."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

from graphprune.errors import DataError

LICENCES, FOLDOC = "/usr/share/common-licenses", "/usr/share/dictd/foldoc.dict.dz"
# Licences of one family quote each other, so a family is never split between the halves.
SECOND_LICENCES = ("Apache-2.0", "Artistic", "CC0-1.0", "MPL-1.1", "MPL-2.0")
FIRST_LICENCES = ("GPL-3", "GFDL-1.3", "LGPL-2.1", "GPL-1")
SMALLEST = 400  # characters of a document


def half(name: str) -> bool:
    """Which half a document belongs to, by its name alone."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def read(path: str, package: str) -> bytes:
    """A file of a Debian package.

    Raises:
        DataError: it is not installed.
    """
    if not Path(path).is_file():
        raise DataError(f"no file {path}", f"apt-get install {package}")
    return Path(path).read_bytes()


@cache
def prose() -> dict[str, str]:
    """Chapters of the King James Bible.

    Raises:
        DataError: the program that unpacks them is not installed.
    """
    program = shutil.which("bible")
    if program is None:
        raise DataError("the program 'bible' is not installed", "apt-get install bible-kjv bible-kjv-text")
    command = [program, "-f", "gen1:1-rev22:21"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    chapters: dict[str, list[str]] = {}
    for line in lines:
        reference, _, verse = line.partition(" ")
        chapters.setdefault(reference.partition(":")[0], []).append(verse)
    return {name: " ".join(verses) + "\n" for name, verses in chapters.items()}


@cache
def code() -> dict[str, str]:
    """Modules of Python's standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [*sorted(root.glob("*.py")), *sorted(root.glob("[a-z]*/*.py"))]
    inside = [path for path in paths if not {"site-packages", "test"} & set(path.parts)]
    chosen = [path for path in inside if not path.name.startswith("_")]  # some are made on the machine
    return {"/".join(path.parts[-2:]): path.read_text("utf-8", errors="replace") for path in chosen}


@cache
def legal() -> dict[str, str]:
    """Licences as Debian carries them."""
    names = FIRST_LICENCES + SECOND_LICENCES
    return {name: read(f"{LICENCES}/{name}", "base-files").decode("utf-8", "replace") for name in names}


@cache
def dictionary() -> dict[str, str]:
    """Articles of the Free On-line Dictionary of Computing."""
    text = gzip.decompress(read(FOLDOC, "dict-foldoc")).decode("utf-8", "replace")
    articles = [entry for entry in re.split(r"\n(?=\S)", text) if entry.count("\n") > 2]
    return {entry.partition("\n")[0]: entry + "\n" for entry in articles}


KINDS = {"prose": prose, "code": code, "legal": legal, "dictionary": dictionary}


def documents(kind: str, second: bool) -> list[str]:
    """Documents of one kind in a fixed order that mixes them; evaluation reads the first half."""
    found = {name: text for name, text in KINDS[kind]().items() if len(text) >= SMALLEST}
    if kind == "legal":
        return [text for name, text in found.items() if (name in SECOND_LICENCES) == second]
    named = sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [found[name] for name in named if half(name) == second]
