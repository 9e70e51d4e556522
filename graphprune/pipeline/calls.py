"""Functions whose arguments are the fields of a dataclass, so that an option is stated once."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from graphprune.errors import ArgumentError, GraphpruneError, did_you_mean
from graphprune.pipeline.option import Option, options

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
WIDTH = 110
LONG = 16
"""A tuple with more is not shown in a call."""
FLAG = re.compile(
    r"--(no-)?([a-z][a-z0-9-]*[a-z0-9])(?: ([A-Z]+(?:\.\w+)?(?![\w=])|[^\s()]+[=:,][^\s()]*[\w\]]))?"
)
"""A flag, and what stands for its value: FILE, FILE.npz, or what has a sign in it, as NAME=2,3."""
SHELLS = ("python -m ", "optimum-cli ", "graphprune ")


class CallError(ArgumentError, TypeError):
    """A function was called with arguments that it does not take; a TypeError, as Python has it."""


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
                strange = next((name for name in kwargs if name not in signature.parameters), "")
                hint = did_you_mean(strange, signature.parameters) if strange else ""
                raise CallError(f"{function.__name__}() {error}", hint) from None
            try:
                return function(kind(*args, **kwargs))
            except GraphpruneError as error:
                error.hint = spoken(error.hint, signature)
                raise

        returns = inspect.signature(function).return_annotation
        called.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]
        called.__doc__ = _documented(function.__doc__ or "", options(kind))
        return called

    return decorate


def spoken(hint: str, signature: inspect.Signature) -> str:
    """A hint with arguments of a function in place of flags; lines for a shell stay as they are."""
    if any(shell in hint for shell in SHELLS):
        return hint

    def argument(found: re.Match[str]) -> str:
        off, name, value = found[1], found[2].replace("-", "_"), found[3] or "..."
        known = signature.parameters.get(name)
        if known is None:
            return found[0]
        if isinstance(known.default, bool):
            return f"{name}={not off}" + (f" {found[3]}" if found[3] else "")
        key, equals, rest = value.partition("=")
        rest = f"[{rest}]" if "," in rest and "[" not in rest else rest
        return f"{name}={{{key!r}: {rest}}}" if equals else f"{name}={value}"

    return FLAG.sub(argument, hint)


def as_call(name: str, asked: object, **instead: object) -> str:
    """The call that asked, without what is the default anyway.

    Args:
        name: of the function.
        asked: what it took.
        instead: values that are shown in place of those; ... is shown for all that has no short text.
    """
    assert not isinstance(asked, type) and dataclasses.is_dataclass(asked)
    defaults = _signature(type(asked)).parameters
    values = {each: instead.get(each, getattr(asked, each)) for each in defaults if each != "progress"}
    said = {each: value for each, value in values.items() if not _same(value, defaults[each].default)}
    return f"{name}({', '.join(f'{each}={_shown(value)}' for each, value in said.items())})"


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def _shown(value: object) -> str:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name!r}: {_shown(part)}' for name, part in value.items())}}}"
    short = isinstance(value, str | int | float) or (isinstance(value, tuple) and len(value) < LONG)
    return repr(value) if short else "..."


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
