"""Errors that a user can cause and act on: a message, a hint, and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraphpruneError(Exception):
    """Something the user can act on.

    Args:
        message: what is wrong and where, in one line.
        hint: what to do next; empty when there is nothing useful to say.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ArgumentError(GraphpruneError):
    """A command, pipeline or API argument has a bad name or value."""


class ModelError(GraphpruneError):
    """The model file is malformed, unsafe, or beyond a limit."""


class OutputError(GraphpruneError):
    """The result cannot be written where it was asked to go."""


class DataError(GraphpruneError):
    """Calibration or input data does not fit the model."""


class PromiseError(GraphpruneError):
    """What was asked cannot be kept: nothing prunable, a budget missed, a proof failed."""

    exit_code = 1


class PluginError(GraphpruneError):
    """What another package added cannot be used; `fault` says why in a few words."""

    def __init__(self, what: str, fault: str, hint: str = "") -> None:
        super().__init__(f"{what} {fault}", hint)
        self.fault = fault


def in_percent(text: str) -> str:
    """A hint how a share is written that was given as "50%"; empty for anything else."""
    try:
        number = float(text.removesuffix("%")) if text.endswith("%") else 0.0
    except ValueError:
        return ""
    return f"a share is written {number / 100:g}" if 0 < number < 1e4 else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, e.g. "did you mean 'prune'?", or lists what is known."""
    names = sorted(known)
    lower = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word, names, n=1) or difflib.get_close_matches(word.lower(), lower, n=1)
    if close:
        return f"did you mean '{lower.get(close[0], close[0]) if close[0] not in names else close[0]}'?"
    return f"known: {', '.join(names)}" if names else ""
