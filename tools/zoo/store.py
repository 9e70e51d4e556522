"""Where the zoo keeps its files and its rows of results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(chosen: str | None = None) -> Path:
    """The folder of the exports: the argument, else `GRAPHPRUNE_CACHE`, else in the user's cache."""
    default = os.environ.get("GRAPHPRUNE_CACHE") or str(Path.home() / ".cache" / "graphprune")
    folder = Path(chosen or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read(path: Path) -> dict[str, Mapping[str, object]]:
    """Rows by model name; a later row replaces an earlier one, and a torn last line is ignored."""
    rows: dict[str, Mapping[str, object]] = {}
    if not path.exists():
        return rows
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[str(row["name"])] = row
    return rows


def append(path: Path, row: Mapping[str, object]) -> None:
    """Adds one row, flushed at once so that an interrupted run resumes after it."""
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
