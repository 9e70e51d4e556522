"""What other packages add through entry points; whatever is wrong with it is an error that names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import TracebackType

from graphprune.errors import GraphpruneError, PluginError, did_you_mean

OURS = ("graphprune", "graphprune_passes")
"""Packages whose faults are bugs of graphprune."""


@dataclass(frozen=True)
class Origin:
    """Whose a plug-in is.

    Attributes:
        what: its kind, name and place, e.g. "criterion 'mine' from 'mine:CRITERION'".
        package: the distribution that holds it; empty where it is ours, or not known.
        code: the package that is imported.
    """

    what: str
    package: str = ""
    code: str = ""

    def __str__(self) -> str:
        return self.package or self.what

    @property
    def hint(self) -> str:
        """What to do about a fault."""
        return f"update or uninstall the package '{self.package}'" if self.package else ""

    def fault(self, words: str) -> PluginError:
        """The error of what is wrong with it."""
        return PluginError(self.what, words, self.hint)

    @contextmanager
    def blamed(
        self,
        verb: str = "fails",
        only: frozenset[str] = frozenset(),
        besides: tuple[type[Exception], ...] = (),
    ) -> Iterator[None]:
        """Makes errors of the code within, or of `only` these packages, errors that name the plug-in.

        Args:
            verb: what the code does when it fails.
            only: packages that are to blame; all that are not ours where it is empty.
            besides: errors that mean something to the caller.

        Raises:
            PluginError: the code failed in a way that no user can act on.
        """
        try:
            yield
        except (Exception, SystemExit) as error:  # a plug-in may fail in any way
            if isinstance(error, (GraphpruneError, MemoryError, *besides)):
                raise
            frames = [frame for frame in _frames(error.__traceback__) if frame.package not in OURS]
            if only and not any(frame.package in only for frame in frames):
                raise
            lines = f"{type(error).__name__}: {error}".splitlines()
            mine = [frame for frame in frames if frame.package == self.code] or frames
            place = f" (in {mine[0].place})" if mine else ""
            raise self.fault(f"{verb}: {lines[0]}{place}") from error


@dataclass(frozen=True)
class _Frame:
    package: str
    place: str


def _frames(trace: TracebackType | None) -> Iterator[_Frame]:
    """Where an error passed through, the innermost first; the machinery of imports and contexts left out."""
    found: list[_Frame] = []
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
        if not module.startswith(("importlib", "contextlib")):
            found.append(_Frame(package(module), f"{Path(code.co_filename).name}:{trace.tb_lineno}"))
        trace = trace.tb_next
    return reversed(found)


def package(module: str) -> str:
    """The top-level package of a module."""
    return module.partition(".")[0]


@dataclass(frozen=True)
class Door:
    """A group of entry points.

    Attributes:
        group: its name, e.g. "graphprune.criteria".
        noun: what one of them is.
    """

    group: str
    noun: str

    def entries(self) -> dict[str, tuple[EntryPoint, ...]]:
        """Who claims each name, sorted, ours first; `-` and `_` are equal in names."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda e: (not is_ours(e), e.value)):
            found.setdefault(entry.name.replace("_", "-"), []).append(entry)
        return {name: tuple(found[name]) for name in sorted(found)}

    def load(self, name: str) -> tuple[object, Origin]:
        """What is behind a name that is there, and whose it is; what is ours stays ours.

        Raises:
            PluginError: it does not load, or several packages claim the name.
        """
        first, *others = self.entries()[name]
        origin = self.origin(first)
        if others and not is_ours(first):
            also = ", ".join(f"'{entry.value}'" for entry in others)
            raise origin.fault(f"has the same name as {also}, so that nobody knows which is meant")
        with origin.blamed("does not load"):
            return first.load(), origin

    def origin(self, entry: EntryPoint) -> Origin:
        """Whose an entry is."""
        holder = entry.dist.name if entry.dist and not is_ours(entry) else ""
        return Origin(f"{self.noun} '{entry.name}' from '{entry.value}'", holder, package(entry.module))

    def holder(self, kind: type) -> Origin:
        """Whose a class is, installed or not."""
        value = f"{kind.__module__}:{kind.__qualname__}"
        for entry in entry_points(group=self.group):
            if entry.value == value:
                return self.origin(entry)
        name = getattr(kind, "name", kind.__name__)
        return Origin(f"{self.noun} '{name}' from '{value}'", code=package(kind.__module__))


def miscalled(name: str, function: Callable[..., object], *needed: str) -> str:
    """Why a function cannot be called as it is going to be, or nothing.

    Args:
        name: what it is called where it is used.
        function: the function, or whatever can be called.
        needed: names of the arguments that it is given, by their places.
    """
    try:
        taken = inspect.signature(function)
    except (TypeError, ValueError):  # some of those that are written in C do not say
        return ""
    try:
        taken.bind(*needed)
    except TypeError:
        return f"has {name}({', '.join(taken.parameters)}): it is called as {name}({', '.join(needed)})"
    return ""


def strays(known: Collection[str]) -> list[tuple[EntryPoint, str]]:
    """Entry points in groups that nothing reads, though their names begin as ours do, and what is meant."""
    found = entry_points()
    groups = sorted(group for group in found.groups if group.startswith("graphprune.") and group not in known)
    return [
        (entry, f"is in the unknown group '{group}': {did_you_mean(group, known)}")
        for group in groups
        for entry in sorted(found.select(group=group), key=lambda entry: (entry.name, entry.value))
    ]


def is_ours(entry: EntryPoint) -> bool:
    """Whether graphprune itself provides it."""
    return package(entry.module) in OURS
