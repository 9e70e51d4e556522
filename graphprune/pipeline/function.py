"""Functions of the user's own, by name: module:function, the working folder searched first."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphprune.doors import Origin, package
from graphprune.errors import ArgumentError
from graphprune.ir.names import quote


def named(given: str, option: str, hint: str) -> Callable[..., Any]:
    """The function of a name.

    Args:
        given: module:function.
        option: what messages call it, such as "--metric".
        hint: what to do where there is none.

    Raises:
        ArgumentError: there is no such module or function.
        PluginError: the module fails when it is imported.
    """
    module, _, name = given.partition(":")
    if not (module and name):
        raise ArgumentError(f"{option} {quote(given)} is not module:function", hint)
    with _here(), origin(given, option).blamed("cannot be imported", besides=(ModuleNotFoundError,)):
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            raise ArgumentError(
                f"{option} {quote(given)}: no module named {quote(error.name or '')}", hint
            ) from None
    if not callable(found):
        raise ArgumentError(
            f"{option} {quote(given)}: module {quote(module)} has no function {quote(name)}", hint
        )
    function: Callable[..., Any] = found
    return function


def origin(given: str, option: str) -> Origin:
    """Whose fault it is where the function fails."""
    return Origin(f"{option.lstrip('-')} {quote(given)}", code=package(given.partition(":")[0]))


@contextmanager
def _here() -> Iterator[None]:
    """Imports find modules of the working folder, as with `python -m`."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
