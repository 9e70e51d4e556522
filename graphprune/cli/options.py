"""Options of commands: those of the settings, and the few that only a command line has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import click

from graphprune.cli.output import Show, say
from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.names import escape, quote
from graphprune.pipeline.option import KINDS, Option
from graphprune.pipeline.option import options as of_settings

if TYPE_CHECKING:
    from graphprune.labels.options import LayerNorm
    from graphprune.pipeline.project import Project

R = TypeVar("R")
S = TypeVar("S")
NOTHING: Mapping[str, object] = MappingProxyType({})

path = click.Path(path_type=str)


class Wrap(Protocol):
    """Adds options to a command, and hands it what they make."""

    def __call__(self, function: Callable[..., R], /) -> Callable[..., R]:
        """The command with them."""
        ...


@dataclass(frozen=True)
class Chosen(Generic[S]):
    """The options that a command line gave, of those that a class of settings has."""

    kind: type[S]
    given: Mapping[str, object]
    project: Project | None = None

    def settings(
        self, named: Mapping[str, object] = NOTHING, usual: Mapping[str, object] = NOTHING, **more: object
    ) -> S:
        """The command line over a file that it names, over one that was found, over what the command says.

        Mappings are joined name by name.
        """
        found = self.project.recipe.of(self.kind) if self.project is not None else {}
        chosen: dict[str, object] = {}
        for layer in (usual, found, named, {**self.given, **more}):
            for name, value in layer.items():
                old = chosen.get(name)
                joined = isinstance(value, Mapping) and isinstance(old, Mapping)
                chosen[name] = {**old, **value} if joined else value  # type: ignore[dict-item]
        return self.kind(**chosen)


def of(kind: type[S], name: str = "chosen", *, project: bool = True) -> Wrap:
    """The options that a class of settings has; the command gets them as `chosen`, or as it calls them.

    With `project` a file that is found stands under them; samples that it names are those of `--inputs`.
    """
    known = [each for each in of_settings(kind) if each.flag]

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def command(**given: object) -> R:
            mine = {each.name: given.pop(each.name) for each in known}
            said = {key: value for key, value in mine.items() if value is not None and value != ()}
            found = _found(given) if project else None
            return function(**{name: Chosen(kind, said, found)}, **given)

        decorated: Callable[..., R] = _no_config(command) if project else command
        for each in reversed(known):
            decorated = _click_option(each)(decorated)
        return decorated

    return decorate


def _no_config(command: Callable[..., R]) -> Callable[..., R]:
    text = "Ignore graphprune.toml and [tool.graphprune] of pyproject.toml."
    return click.option("--no-config", is_flag=True, help=text)(command)


def _found(given: dict[str, object]) -> Project | None:
    """The file that applies, which every run names; it completes what was `given` besides settings."""
    from graphprune.pipeline.project import find

    found = None if given.pop("no_config") else find()
    if found is None:
        return None
    if not given.get("quiet"):
        say(f"settings from {escape(str(found.path))} (--no-config ignores it)")
    samples = found.recipe.options.get("inputs")
    if samples is not None and "inputs" in given and given["inputs"] is None:
        given["inputs"] = Path(str(samples))
    return found


def _click_option(item: Option) -> Wrap:
    assert item.accepts is not None
    if not item.accepts.metavar:
        return click.option(item.flag, item.name, is_flag=True, default=None, help=item.command_help)
    read = partial(_read, item)
    several, metavar = item.accepts.several, item.accepts.metavar
    return click.option(
        item.flag, item.name, multiple=several, callback=read, metavar=metavar, help=item.command_help
    )


def _read(item: Option, ctx: click.Context, param: click.Parameter, given: object) -> object:
    assert item.accepts is not None
    if isinstance(given, tuple):
        return dict(cast("tuple[str, object]", item.accepts.text(item.flag, text)) for text in given) or None
    return None if given is None else item.accepts.text(item.flag, str(given))


@dataclass(frozen=True)
class Outputs:
    """What `--output` said: where the result goes, and how outputs of the model are judged."""

    file: str | None
    kinds: Mapping[str, str]


def outputs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Outputs:
    """A callback that tells FILE from NAME=KIND; of a name the last counts, of files there is one."""
    kinds: dict[str, str] = {}
    files = []
    for value in values:
        name, _, kind = value.rpartition("=")
        if name and kind in KINDS:
            kinds[name] = kind
        elif name and kind.isalpha():  # a file has a suffix
            hint = did_you_mean(kind, KINDS) or f"kinds are {', '.join(KINDS)}"
            raise ArgumentError(f"--output '{escape(value)}' names no kind of output", hint)
        else:
            files.append(value)
    if len(files) > 1:
        raise ArgumentError(
            f"there are {len(files)} outputs: {', '.join(map(quote, files))}", "give one -o FILE"
        )
    return Outputs(next(iter(files), None), kinds)


def at_least(bound: int) -> Callable[[click.Context, click.Parameter, int | None], int | None]:
    """A callback that refuses smaller numbers."""

    def check(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
        if value is not None and value < bound:
            raise ArgumentError(f"{param.opts[0]} must be at least {bound}, got {value}")
        return value

    return check


def printing(quiet: str = "", verbose: str = "", more: Sequence[str] = ()) -> Wrap:
    """How results are printed; the command gets it as `show`. Without a text there is no -q or no -v.

    `more` are forms beside text and JSON.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def command(
            form: str, as_json: bool, quiet: bool = False, verbose: bool = False, **given: object
        ) -> R:
            return function(show=Show("json" if as_json else form, quiet, verbose), **given)

        if verbose:
            command = click.option("-v", "--verbose", is_flag=True, help=verbose)(command)
        if quiet:
            command = click.option("-q", "--quiet", is_flag=True, help=quiet)(command)
        command = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")(command)
        choice = click.Choice(["text", "json", *more])
        text = "How results are printed."
        return click.option("--format", "form", type=choice, default="text", help=text)(command)

    return decorate


def inputs(what: str) -> Wrap:
    """A file or folder of inputs; the command gets its path, or None."""
    return data("--inputs", f"Inputs to {what}: an .npz, an .npy or a folder of them.")


def data(flag: str, text: str) -> Wrap:
    """A file or folder of samples; the command gets its path, or None."""
    return click.option(flag, type=click.Path(path_type=Path), metavar="DATA", help=text)


def analysis() -> Wrap:
    """What the analysis may assume, as for a pass that prunes; the command gets it as `assumed`."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def command(layernorm: LayerNorm, allow_inexact: bool, **given: object) -> R:
            from graphprune.axes import Options

            return function(assumed=Options(layernorm=layernorm, allow_inexact=allow_inexact), **given)

        inexact = "Also show cuts that change what a normalisation computes."
        command = click.option("--allow-inexact", is_flag=True, help=inexact)(command)
        text = "Widths under LayerNorm."
        choice = click.Choice(["refuse", "expand", "slice"])
        return click.option("--layernorm", type=choice, default="refuse", show_default=True, help=text)(
            command
        )

    return decorate
