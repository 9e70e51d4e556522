"""Functions whose arguments are the fields of a dataclass, so that an option is stated once."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from graphprune.pipeline.option import Option, options

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
WIDTH = 110


def called_as(kind: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """A function of one value of a dataclass becomes one that is called with the fields of the dataclass.

    Its signature and its docstring name every one of them.
    """
    assert isinstance(kind, type)
    signature = _signature(kind)

    def decorate(function: Callable[[T], R]) -> Callable[P, R]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(kind(*args, **kwargs))

        returns = inspect.signature(function).return_annotation
        called.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]
        called.__doc__ = _documented(function.__doc__ or "", options(kind))
        return called

    return decorate


def _signature(kind: type) -> inspect.Signature:
    """The constructor's, with the function's own arguments before the options."""
    known = {each.name for each in options(kind)}
    fields = {each.name: each for each in dataclasses.fields(kind)}
    own: list[inspect.Parameter] = []
    shared: list[inspect.Parameter] = []
    for each in inspect.signature(kind).parameters.values():
        factory = fields[each.name].default_factory
        shown = each if factory is dataclasses.MISSING else each.replace(default=factory())
        (shared if each.name in known else own).append(shown)
    return inspect.Signature([*own, *shared])


def _documented(text: str, known: tuple[Option, ...]) -> str:
    """A docstring with the options behind the arguments that it lists."""
    lines = [_line(each) for each in known]
    before, raises, after = inspect.cleandoc(text).partition("\n\nRaises:")
    return "\n".join([before, *lines]) + raises + after


def _line(item: Option) -> str:
    told = f"{item.name}: {item.help[:1].lower()}{item.help[1:]}"
    return textwrap.fill(told, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)
