"""Values of pass arguments: from pipeline text to typed Python and back.

The type of the dataclass field decides: bool, int, float, str, Literal, `X | None`, unions, `tuple[X, ...]`,
`Mapping[K, V]`, and `Annotated[str, ...]` for an amount or one of the words that a function gives. `show`
and `convert` are inverse.
"""

from __future__ import annotations

import collections.abc
import math
import numbers
import types
import typing
from typing import Annotated, Literal

from graphprune.errors import ArgumentError, did_you_mean, in_percent
from graphprune.pipeline.amounts import Amounts
from graphprune.pipeline.grammar import Mapping, Scalar, Sequence, Value, bare, dashed, quote

Plain = bool | int | float | str | None
"""What a scalar argument may hold."""
Typed = Plain | tuple["Typed", ...] | dict[Plain, "Typed"]
"""What any argument may hold."""

_BOOLS = {"true": True, "false": False}


def convert(value: Value, wanted: object) -> Typed:
    """The value as the wanted type.

    Raises:
        ArgumentError: the value does not fit; the message points at it and says what would.
    """
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _union(value, typing.get_args(wanted))
    if origin is tuple:
        return _sequence(value, typing.get_args(wanted)[0])
    if origin in (dict, collections.abc.Mapping):
        return _mapping(value, typing.get_args(wanted))
    if not isinstance(value, Scalar):
        raise value.span.error(f"expected {describe(wanted)}")
    if origin is Literal:
        return _literal(value, typing.get_args(wanted))
    if origin is Annotated:
        return _amount(value, wanted) if _amounts(wanted) else _literal(value, _words(wanted))
    return _scalar(value, wanted)


def _union(value: Value, members: tuple[object, ...]) -> Typed:
    fitting = [member for member in members if _fits(value, member)]
    if fitting:
        return convert(value, fitting[0])
    words = [
        str(word)
        for member in members
        if typing.get_origin(member) is Literal
        for word in typing.get_args(member)
    ]
    close = did_you_mean(value.text, words) if words and isinstance(value, Scalar) else ""
    raise value.span.error(
        f"expected {_alternatives(members)}",
        in_percent(value.text if isinstance(value, Scalar) else "") or close,
    )


def _fits(value: Value, wanted: object) -> bool:
    try:
        convert(value, wanted)
    except ArgumentError:
        return False
    return True


def _sequence(value: Value, member: object) -> tuple[Typed, ...]:
    # One word where a list is wanted is a list of one: ignore=conv1.* reads as it is meant.
    items = value.items if isinstance(value, Sequence) else (value,)
    if isinstance(value, Mapping):
        raise value.span.error(f"expected a list of {describe(member)}")
    return tuple(convert(item, member) for item in items)


def _mapping(value: Value, members: tuple[object, ...]) -> dict[Plain, Typed]:
    if not isinstance(value, Mapping):
        raise value.span.error(f"expected a mapping {{{describe(members[0])}: {describe(members[1])}}}")
    result: dict[Plain, Typed] = {}
    for key, item in value.items:
        plain = convert(key, members[0])
        assert not isinstance(plain, tuple | dict), "a pass declares a mapping with keys that are not scalars"
        if plain in result:
            raise key.span.error("this key is given twice")
        result[plain] = convert(item, members[1])
    return result


def _words(wanted: object) -> tuple[str, ...]:
    """What may stand for `Annotated[str, names]`."""
    names = typing.get_args(wanted)[1]
    return tuple(names())


def _amounts(wanted: object) -> Amounts | None:
    """What says which texts are an amount, where one is wanted."""
    said = typing.get_args(wanted)[1]
    return said if isinstance(said, Amounts) else None


def _amount(value: Scalar, wanted: object) -> str:
    amounts = _amounts(wanted)
    if amounts is None or not amounts.accepts(value.text):
        raise value.span.error(f"expected {describe(wanted)}", in_percent(value.text))
    return value.text


def _literal(value: Scalar, choices: tuple[object, ...]) -> Plain:
    for choice in choices:
        if dashed(str(choice)) == dashed(value.text):
            return typing.cast(Plain, choice)
    names = [str(choice) for choice in choices]
    raise value.span.error(
        f"'{value.text}' is not one of {', '.join(names)}", did_you_mean(value.text, names)
    )


def _scalar(value: Scalar, wanted: object) -> Plain:
    if wanted is str:
        return value.text
    if not value.quoted:
        if wanted is bool and value.text in _BOOLS:
            return _BOOLS[value.text]
        if wanted in (type(None), None) and value.text == "none":
            return None
        if wanted in (int, float):
            number = _number(value.text, int if wanted is int else float)
            if number is not None:
                return number
    raise value.span.error(f"expected {describe(wanted)}", in_percent(value.text))


def _number(text: str, kind: type[int] | type[float]) -> int | float | None:
    if "_" in text or not text.isascii():
        return None
    try:
        number = kind(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def fits(value: object, wanted: object) -> bool:
    """Whether a value of Python is what an argument of this type holds; of unknown types every value is."""
    origin, members = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, member) for member in members)
    if origin is tuple:
        if not isinstance(value, collections.abc.Sequence) or isinstance(value, str):
            return False
        return all(fits(item, members[0]) for item in value)
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, collections.abc.Mapping) and all(
            fits(key, members[0]) and fits(_listed(item), members[1]) for key, item in value.items()
        )
    if origin is Literal:
        return isinstance(value, bool | int | str) and value in members
    return _holds(value, members[0] if origin is Annotated else wanted)


def _listed(value: object) -> object:
    """An array as the list that it is; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _holds(value: object, wanted: object) -> bool:
    if wanted in (None, type(None)):
        return value is None
    if wanted in _KINDS:
        return isinstance(value, _KINDS[wanted]) and isinstance(value, bool) == (wanted is bool)
    return True


_KINDS: dict[object, type] = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}


def alike(value: object, wanted: object) -> str:
    """What was meant by a value that does not fit, where that is plain."""
    members = typing.get_args(wanted)
    if typing.get_origin(wanted) is tuple and fits(value, members[0]):
        return f"write [{value!r}]"
    if isinstance(value, collections.abc.Mapping) and any(map(_is_mask, value.values())):
        return "numpy.flatnonzero(mask) are its indices"
    if isinstance(value, str) and (hint := in_percent(value)):
        return hint
    words = [str(word) for word in _choices(wanted)]
    close = did_you_mean(value, words) if words and isinstance(value, str) else ""
    return close if close.startswith("did you mean") else ""


def _is_mask(value: object) -> bool:
    listed = _listed(value)
    return isinstance(listed, list) and bool(listed) and isinstance(listed[0], bool)


def _choices(wanted: object) -> tuple[object, ...]:
    members = typing.get_args(wanted)
    if typing.get_origin(wanted) is Literal:
        return members
    return tuple(word for member in members for word in _choices(member))


_NAMES: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word or a string",
    None: "none",
    type(None): "none",
}


def describe(wanted: object) -> str:
    """A type in the words of the command line, e.g. "a number", "one of l1, l2"."""
    origin, members = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return _alternatives(members)
    if origin is Literal:
        return " | ".join(str(member) for member in members)
    if origin is Annotated:
        return str(_amounts(wanted) or " | ".join(_words(wanted)))
    if origin is tuple:
        return f"a list of {describe(members[0])}"
    if origin in (dict, collections.abc.Mapping):
        return f"a mapping {{{describe(members[0])}: {describe(members[1])}}}"
    return _NAMES.get(wanted, str(wanted))


def _alternatives(members: tuple[object, ...]) -> str:
    return " or ".join(describe(member) for member in members)


def show(value: object, key: bool = False) -> str:
    """A typed value as pipeline text that reads back to the same value."""
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        value = value.item()  # numpy writes its own as np.float64(0.5)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return value if bare(value, key) and not _ambiguous(value) else quote(value)
    if isinstance(value, collections.abc.Mapping):
        return "{" + ", ".join(f"{show(k, True)}: {show(v)}" for k, v in value.items()) + "}"
    if isinstance(value, collections.abc.Sequence):
        return "[" + ", ".join(show(item) for item in value) + "]"
    raise TypeError(f"an argument of a pass holds {type(value).__name__}, which has no pipeline text")


def _ambiguous(text: str) -> bool:
    """Whether a bare word would read as something else than a text where the type leaves both open."""
    return text in _BOOLS or text == "none" or _number(text, float) is not None
