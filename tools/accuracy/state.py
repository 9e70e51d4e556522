"""Which state of the code a row is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from graphprune.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ("graphprune", "passes", "tools/real_models")  # what a result depends on


def measured_at(root: Path = ROOT) -> str:
    """The last commit that changed anything that results depend on.

    Raises:
        DataError: files differ from it, so that no commit would name what is measured.
    """
    if _git(root, "status", "--porcelain", "--", *MEASURED):
        raise DataError(
            f"{', '.join(MEASURED)} differ from the last commit",
            "commit: a row names the state it was measured at",
        )
    return _git(root, "log", "-1", "--format=%h", "--", *MEASURED)


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"no history in {root}: {done.stderr.strip()}", "run in a clone, not in an archive")
    return done.stdout.strip()
