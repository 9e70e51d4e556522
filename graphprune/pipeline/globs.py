"""`only` and `ignore`: what globs over names leave of the things a pass may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from graphprune.axes import Group
from graphprune.axes.sublayers import Sublayer
from graphprune.errors import ArgumentError
from graphprune.experts.mixtures import Mixture

Item = TypeVar("Item")
Names = Callable[[Item], set[str]]


def group_names(group: Group) -> set[str]:
    """What a Group is called: its id, the initializers and the nodes that it touches."""
    return {group.id, *(s.initializer for s in group.slices), *(s.node for s in group.slices)}


def sublayer_names(item: Sublayer) -> set[str]:
    """What a sublayer is called: its result and its nodes."""
    return {item.name, *(node.name or "" for node in item.nodes)}


def mixture_names(item: Mixture) -> set[str]:
    """What a layer of experts is called: its Group, its weights, and the node that chooses."""
    return {item.group.id, item.chooser.name or "", *(s.initializer for s in item.group.slices)}


def matches(names: Iterable[str], glob: str) -> bool:
    """Whether a glob fits one of the names."""
    return any(fnmatchcase(name, glob) for name in names)


def filtered(
    items: Iterable[Item], names: Names[Item], only: Sequence[str], ignore: Sequence[str]
) -> tuple[Item, ...]:
    """The items that a glob of `only` names (all without one) and none of `ignore`."""
    named = (item for item in items if not only or any(matches(names(item), glob) for glob in only))
    return tuple(item for item in named if not any(matches(names(item), glob) for glob in ignore))


def require_groups(groups: Sequence[Group], globs: Iterable[str]) -> None:
    """Every glob fits a Group.

    Raises:
        ArgumentError: one does not.
    """
    for glob in globs:
        if not any(matches(group_names(group), glob) for group in groups):
            message = f"nothing in the model is called '{glob}'"
            raise ArgumentError(message, "`graphprune inspect` lists the Groups")


def require_named(
    items: Sequence[Item],
    names: Names[Item],
    title: Callable[[Item], str],
    what: str,
    globs: Iterable[str],
) -> None:
    """Every glob fits one of the items, which the hint lists by `title`.

    Raises:
        ArgumentError: one does not.
    """
    for glob in globs:
        if not any(matches(names(item), glob) for item in items):
            known = ", ".join(title(item) for item in items[:6]) or "none"
            raise ArgumentError(f"no {what} is called '{glob}'", f"there are: {known}")
