"""Questions about names; the answer is no where the system cannot look: too long, looping, forbidden."""

from __future__ import annotations

from pathlib import Path


def exists(path: Path) -> bool:
    """Whether anything can be found under a name."""
    try:
        return path.exists()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder can be found under a name."""
    try:
        return path.is_dir()
    except OSError:
        return False
