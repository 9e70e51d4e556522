"""Pipeline text: the grammar of a list of configured passes, its reader and its printer.

    pipeline ::= [stage ("," stage)*]          stage ::= NAME [ "(" [argument ("," argument)*] ")" ]
    argument ::= NAME "=" value
    value    ::= WORD | "STRING" | "[" [value ("," value)*] "]" | "{" [pair ("," pair)*] "}"
    pair     ::= value ":" value

NAME is `[a-z][a-z0-9_-]*`, with `-` and `_` equal. WORD is any run without `,()[]{}="` or space (numbers,
true, 2:4, l2, conv1.*); as the key of a mapping it also ends at the first `:`. STRING is a JSON string. What
a word means is up to the type of the argument, so the reader keeps words as text, each with its place for the
caret of an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from graphprune.errors import ArgumentError

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_WORD = re.compile(r'[^,()\[\]{}="\s]+')
_KEY = re.compile(r'[^,()\[\]{}="\s:]+')
_LOOSE = re.compile(r"[a-z][a-z0-9_-]*=[^,()\[\]{}\"\s]+")
_SPACE = re.compile(r"\s*")
_WINDOW = 100
T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """A piece of pipeline text: where an error points."""

    text: str
    start: int
    end: int

    def error(self, message: str, hint: str = "") -> ArgumentError:
        """An error whose message shows the text with a caret under this piece."""
        return ArgumentError(f"{message}\n{caret(self)}", hint)


@dataclass(frozen=True)
class Scalar:
    """A word, or a string when quoted."""

    text: str
    quoted: bool
    span: Span


@dataclass(frozen=True)
class Sequence:
    """Values in brackets."""

    items: tuple[Value, ...]
    span: Span


@dataclass(frozen=True)
class Mapping:
    """Pairs of values in braces."""

    items: tuple[tuple[Value, Value], ...]
    span: Span


Value = Scalar | Sequence | Mapping


@dataclass(frozen=True)
class Argument:
    """`name=value`, with the name in its printed form (`-`, not `_`)."""

    name: str
    value: Value
    span: Span


@dataclass(frozen=True)
class Stage:
    """One pass as written: its name in printed form and its arguments."""

    name: str
    arguments: tuple[Argument, ...]
    span: Span


def dashed(name: str) -> str:
    """The printed form of a name: `min_keep` and `min-keep` are the same word."""
    return name.replace("_", "-")


def caret(span: Span) -> str:
    """Two indented lines: the text around a span, and carets under it."""
    low = 0 if span.end <= _WINDOW else max(0, span.start - _WINDOW // 2)
    high = min(len(span.text), low + _WINDOW)
    shown = "".join(c if c.isprintable() else "?" for c in span.text[low:high])
    left, right = ("..." if low else ""), ("..." if high < len(span.text) else "")
    width = max(1, min(span.end, high) - span.start)
    return f"  {left}{shown}{right}\n  {' ' * (len(left) + span.start - low)}{'^' * width}"


def parse(text: str) -> tuple[Stage, ...]:
    """The stages of a pipeline text.

    Raises:
        ArgumentError: the text is not a pipeline; the message points at the place.
    """
    reader = _Reader(text)
    if reader.at_end():
        return ()
    stages = [reader.stage()]
    while reader.take(","):
        stages.append(reader.stage())
    if not reader.at_end():
        loose = _LOOSE.match(text, reader.position)
        hint = f"arguments stand in parentheses: {stages[-1].name}({loose.group()})" if loose else ""
        raise reader.here().error("expected ',' or the end of the pipeline", hint)
    return tuple(stages)


class _Reader:
    """A position in pipeline text that only moves forward."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def at_end(self) -> bool:
        self.skip()
        return self.position >= len(self.text)

    def here(self) -> Span:
        self.skip()
        return Span(self.text, self.position, self.position + 1)

    def since(self, start: int) -> Span:
        return Span(self.text, start, self.position)

    def take(self, symbol: str) -> bool:
        self.skip()
        if not self.text.startswith(symbol, self.position):
            return False
        self.position += len(symbol)
        return True

    def match(self, pattern: re.Pattern[str]) -> str:
        self.skip()
        found = pattern.match(self.text, self.position)
        if not found:
            return ""
        self.position = found.end()
        return found.group()

    def name(self, what: str) -> str:
        name = self.match(_NAME)
        if not name:
            raise self.here().error(f"expected {what}", "names are lower-case letters, digits, '-' and '_'")
        return dashed(name)

    def until(self, close: str, item: Callable[[], T], what: str) -> tuple[T, ...]:
        """Comma-separated items up to the closing symbol."""
        if self.take(close):
            return ()
        items = [item()]
        while self.take(","):
            items.append(item())
        if not self.take(close):
            raise self.here().error(f"expected ',' or '{close}' after {what}")
        return tuple(items)

    def stage(self) -> Stage:
        self.skip()
        start = self.position
        name = self.name("the name of a pass")
        span = self.since(start)
        arguments = self.until(")", self.argument, "an argument") if self.take("(") else ()
        seen: set[str] = set()
        for argument in arguments:
            if argument.name in seen:
                raise argument.span.error(f"argument '{argument.name}' is given twice")
            seen.add(argument.name)
        return Stage(name, arguments, span)

    def argument(self) -> Argument:
        self.skip()
        start = self.position
        if self.text[start : start + 1].isdigit():
            decimal = self.text[start - 1 : start] == "," and self.text[start - 2 : start - 1].isdigit()
            hint = (
                "decimals are written with a point: 0.5"
                if decimal
                else "arguments are written name=value, e.g. ratio=0.4"
            )
            raise self.here().error("expected the name of an argument", hint)
        name = self.name("the name of an argument")
        span = self.since(start)
        if not self.take("="):
            raise self.here().error(f"expected '=' after '{name}'", "arguments are written name=value")
        return Argument(name, self.value(), span)

    def value(self, word: re.Pattern[str] = _WORD) -> Value:
        self.skip()
        start = self.position
        if self.take('"'):
            return self.string(start)
        if self.take("["):
            return Sequence(self.nested("]", self.value, "a value"), self.since(start))
        if self.take("{"):
            return Mapping(self.nested("}", self.pair, "a pair"), self.since(start))
        text = self.match(word)
        if not text:
            raise self.here().error("expected a value")
        return Scalar(text, False, self.since(start))

    def nested(self, close: str, item: Callable[[], T], what: str) -> tuple[T, ...]:
        if self.depth >= 50:
            raise self.here().error("brackets are nested more than 50 deep")
        self.depth += 1
        items = self.until(close, item, what)
        self.depth -= 1
        return items

    def pair(self) -> tuple[Value, Value]:
        key = self.value(_KEY)
        if not self.take(":"):
            raise self.here().error("expected ':' after the key", "pairs are written key: value")
        return key, self.value()

    def string(self, start: int) -> Scalar:
        try:
            text, self.position = json.JSONDecoder().raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            raise Span(self.text, start, start + 1).error(f"bad string: {error.msg.lower()}") from None
        return Scalar(text, True, self.since(start))


def bare(text: str, key: bool = False) -> bool:
    """Whether a text can be written as a WORD, without quotes."""
    return bool((_KEY if key else _WORD).fullmatch(text)) and text.isprintable()


def quote(text: str) -> str:
    """A text as a STRING."""
    return json.dumps(text, ensure_ascii=False)
