"""Scores in a folder: what a compile found, others of the same model, samples and criterion need not find.

A criterion ranks all Units of a model, whatever the budget; with the elimination of all of them that is most
of the work of a cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphprune.ir.arrays import Scores
from graphprune.ir.publish import unwritable, write_file

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Scorebook:
    """Scores by what they follow from.

    Args:
        folder: where they are; made when there are some.
    """

    folder: Path

    def scores(self, about: str, find: Callable[[Tell], dict[str, Scores]], warn: Tell) -> dict[str, Scores]:
        """Those that are known, or else found now.

        Args:
            about: all that they follow from.
            find: finds them, and is handed what its warnings are told to.
            warn: told the warnings of whoever found them first.

        Raises:
            OutputError: they cannot be written.
        """
        path = self.folder / f"{hashlib.sha256(about.encode()).hexdigest()}.json"
        known = _read(path)
        if known is None:
            warnings: list[str] = []
            found = find(warnings.append)
            known = found, tuple(warnings)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(self.folder, error) from None
            write_file(path, _text(found, warnings).encode())
        for line in known[1]:
            warn(line)
        return known[0]


def _text(found: Mapping[str, Scores], warnings: list[str]) -> str:
    scores = {name: [str(values.dtype), values.tolist()] for name, values in found.items()}
    return json.dumps({"scores": scores, "warnings": warnings})


def _read(path: Path) -> tuple[dict[str, Scores], tuple[str, ...]] | None:
    """None where there is no such file, or only a damaged one: then they are found anew."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        told = json.loads(path.read_text(encoding="utf-8"))
        found = {name: np.array(values, dtype) for name, (dtype, values) in told["scores"].items()}
        return found, tuple(told["warnings"])
    return None
