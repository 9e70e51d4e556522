"""Printing: results on stdout, everything else on stderr; rich on a terminal, plain text in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO, TypeVar

import click

from graphprune.errors import GraphpruneError, OutputError
from graphprune.ir.names import escape

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from graphprune.report.table import Table

T = TypeVar("T")
ONE_FILE = 2**31
"""Bytes that protobuf can hold."""


class UnshownError(GraphpruneError):
    """Results could not go to stdout; `left` where their reader is gone, which needs no words."""

    def __init__(self, reason: str, left: bool = False) -> None:
        super().__init__(f"cannot write to stdout: {reason}")
        self.left = left


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Where results go, flushed at the end.

    Raises:
        UnshownError: stdout is closed or full, or nobody reads it any more.
    """
    if sys.stdout is None:
        raise UnshownError("it is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        abandon_stdout()
        left = isinstance(error, BrokenPipeError)
        raise UnshownError((error.strerror or str(error)).lower(), left) from None


def abandon_stdout() -> None:
    """Where stdout takes nothing, keep Python from failing once more on what is left while it shuts down."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def after(files: Sequence[str]) -> Iterator[None]:
    """Work that follows the writing of files: where it fails, they stay, and the hint says so."""
    try:
        yield
    except GraphpruneError as error:
        if files:
            error.hint = f"what was to be written is complete: {', '.join(map(escape, files))}"
        raise


def send_model(model: ir.Model, copied: Path | None) -> None:
    """A model on stdout, weights included; the bytes of the file where it is a copy of one.

    Raises:
        OutputError: it does not fit one file.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from graphprune.ir.save import save

    if copied is not None:
        _send(copied)
        return
    with TemporaryDirectory() as folder:
        written = tuple(save(model, Path(folder, "model.onnx"), None, external_threshold=ONE_FILE))
        if len(written) > 1:
            raise OutputError("-o - writes one file, and the model is larger than 2 GB", "-o FILE")
        _send(written[0])


def _send(path: Path) -> None:
    import shutil

    with path.open("rb") as file, _stdout() as out:
        shutil.copyfileobj(file, out.buffer)
        out.buffer.flush()


def show_tables(tables: Iterable[Table], err: bool = False) -> None:
    """Tables on stdout, or on stderr."""
    from graphprune.report.table import fancy, plain

    with nullcontext(sys.stderr) if err else _stdout() as out:
        if not out.isatty():
            click.echo("\n\n".join(plain(table) for table in tables), out)
            return
        from rich.console import Console

        console = Console(highlight=False, stderr=err)
        for table in tables:
            console.print(fancy(table))


def show_json(value: object) -> None:
    """One JSON document on stdout."""
    from graphprune.pipeline.report import plain

    with _stdout() as out:
        click.echo(json.dumps(plain(value), indent=2, ensure_ascii=True), out)


def say(line: str) -> None:
    """A line of status on stderr; work does not fail because nobody can hear of it."""
    with suppress(OSError):
        click.echo(line, err=True)


class Progress:
    """What is going on, on stderr: a bar on a terminal, nothing in a pipe unless asked for lines.

    Args:
        quiet: show nothing at all.
        verbose: in a pipe, write a line when a phase starts.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.fancy = sys.stderr is not None and sys.stderr.isatty() and not quiet
        self.lines = verbose and not quiet and not self.fancy
        self.last = ""
        self.bar: RichProgress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> Progress:
        if self.fancy:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
            console = Console(stderr=True)
            self.bar = RichProgress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self.bar.start()
            self.task = self.bar.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, line: str) -> None:
        """A line of status that stays, above the bar."""
        if self.bar is None:
            say(line)
        else:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, done: int, total: int, what: str) -> None:
        """Say what is going on, and how far it is."""
        if self.bar is not None and self.task is not None:
            if what != self.last:
                self.bar.reset(self.task)  # the time that is left follows from this phase alone
            self.bar.update(self.task, description=what, completed=done, total=total or None)
        elif self.lines and what != self.last:
            say(what)
        self.last = what


@dataclass(frozen=True)
class Show:
    """How a command shows what it found.

    Attributes:
        form: text for people, json, or one that the command adds.
        quiet: print nothing but errors.
        verbose: name the phases, and show more.
        err: results go to stderr, as stdout is taken.
    """

    form: str = "text"
    quiet: bool = False
    verbose: bool = False
    err: bool = False

    def progress(self) -> Progress:
        """What is told how far the work is."""
        return Progress(self.quiet, self.verbose)

    def result(
        self,
        value: T,
        tables: Callable[[T], Iterable[Table]],
        document: object = None,
        forms: Mapping[str, Callable[[T], str]] = MappingProxyType({}),
    ) -> None:
        """A result on stdout.

        Args:
            value: the result.
            tables: of it, for people.
            document: its JSON where that is not all of the value.
            forms: texts of it in other forms.
        """
        if self.quiet:
            return
        if self.form in forms:
            with _stdout() as out:
                click.echo(forms[self.form](value), out)
            return
        if self.form == "json":
            show_json(value if document is None else document)
        else:
            show_tables(tables(value), self.err)

    def files(self, names: Iterable[str]) -> None:
        """Which files were written."""
        for name in () if self.quiet else names:
            say(f"wrote {escape(name)}")
