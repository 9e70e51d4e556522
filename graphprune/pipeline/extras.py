"""Packages that not everybody needs: what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from graphprune.errors import ArgumentError


def require_torch(what: str) -> None:
    """Say that something needs torch, if anything: an empty name is of nothing.

    Raises:
        ArgumentError: it is not installed.
    """
    if what and find_spec("torch") is None:
        raise ArgumentError(f"{what} needs torch, which is not installed", 'pip install "graphprune[torch]"')
