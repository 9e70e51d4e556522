"""Passes by name, from the entry points of the group `graphprune.passes`, ours like a third party's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from graphprune.errors import ArgumentError, GraphpruneError, did_you_mean
from graphprune.pipeline.grammar import Span, Stage, dashed, parse
from graphprune.pipeline.passes import Pass, from_stage

GROUP = "graphprune.passes"


class PluginError(GraphpruneError):
    """An installed pass cannot be used; `fault` says why in a few words."""

    def __init__(self, name: str, entry: EntryPoint, fault: str) -> None:
        package = entry.dist.name if entry.dist else ""
        hint = f"update or uninstall the package '{package}'" if package else ""
        super().__init__(f"pass '{name}' from '{entry.value}' {fault}", hint)
        self.fault = fault


def names() -> tuple[str, ...]:
    """Names of the installed passes, sorted; loads none of them."""
    return tuple(sorted(_entries()))


def _entries() -> dict[str, EntryPoint]:
    # Sorted so that two packages that claim one name resolve the same way on every machine; ours win.
    found = sorted(entry_points(group=GROUP), key=lambda entry: (not _ours(entry), entry.value))
    result: dict[str, EntryPoint] = {}
    for entry in found:
        result.setdefault(dashed(entry.name), entry)
    return result


def _ours(entry: EntryPoint) -> bool:
    return entry.value.startswith("graphprune_passes.")


def load(name: str) -> type[Pass]:
    """The pass class behind a name.

    Raises:
        ArgumentError: no such pass.
        PluginError: the package that provides it does not load, or does not provide a pass.
    """
    return _load(name, Span(name, 0, len(name)))


def _load(name: str, span: Span) -> type[Pass]:
    entries = _entries()
    entry = entries.get(dashed(name))
    if entry is None:
        hint = (
            did_you_mean(name, entries) or "no passes are installed: is graphprune itself installed with pip?"
        )
        raise span.error(f"no pass named '{name}'", hint)
    try:
        kind: type[Pass] = entry.load()
    except Exception as error:  # a plugin may fail in any way; it must not take the command down with it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(name, entry, f"does not load: {reason}") from error
    fault = _fault(kind)
    if fault:
        raise PluginError(name, entry, fault)
    return kind


def _fault(kind: object) -> str:
    """What stops an object from being a pass, or nothing."""
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        return "is not a subclass of graphprune.pipeline.passes.Pass"
    if not isinstance(getattr(kind, "name", None), str):
        return "has no name"
    if not dataclasses.is_dataclass(kind) or "__dataclass_fields__" not in vars(kind):
        return "is not a frozen dataclass"
    if (kind.decide is Pass.decide) == (kind.transform is Pass.transform):
        return "must implement exactly one of decide and transform"
    return ""


def read(text: str) -> tuple[Pass, ...]:
    """The passes of a pipeline text.

    Raises:
        ArgumentError: bad syntax, an unknown pass or argument, or a bad value.
    """
    return tuple(_pass(stage) for stage in parse(text))


def _pass(stage: Stage) -> Pass:
    return from_stage(_load(stage.name, stage.span), stage)


def text(passes: Iterable[Pass]) -> str:
    """Pipeline text that reads back to the same passes."""
    return ", ".join(str(item) for item in passes)


def resolve(passes: str | Pass | Iterable[Pass | str]) -> tuple[Pass, ...]:
    """Passes from what the Python API accepts: pipeline text, a pass, or a list of either."""
    if isinstance(passes, str):
        return read(passes)
    if isinstance(passes, Pass):
        return (passes,)
    result: list[Pass] = []
    for item in passes:
        if isinstance(item, str):
            result.extend(read(item))
        elif isinstance(item, Pass):
            result.append(item)
        else:
            raise ArgumentError(
                f"passes hold {type(item).__name__}, which is neither a pass nor pipeline text"
            )
    return tuple(result)
