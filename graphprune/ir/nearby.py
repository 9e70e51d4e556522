"""Hints at what a path that names nothing may have meant."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from graphprune.errors import did_you_mean
from graphprune.ir.names import escape

MOST = 1000
"""Names of a folder that are looked at."""


def nearby(path: Path | str) -> str:
    """E.g. "did you mean 'model.onnx'?"; of a path whose folder is missing, what that may have meant.

    Empty where the path is there, or nothing beside it has a like name.
    """
    try:
        way = [*reversed(Path(path).parents), Path(path)]
        missing = next((each for each in way if not each.exists()), None)
        if missing is None:
            return ""
        names = [escape(entry.name) for entry in islice(os.scandir(missing.parent), MOST)]
    except (OSError, ValueError):
        return ""
    hint = did_you_mean(missing.name, names)
    return hint if hint.startswith("did you mean") else ""
