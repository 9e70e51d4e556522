"""Every installed pass as a class: `graphprune.passes.Prune(ratio=0.5)` is the pass `prune(ratio=0.5)`.

A pipeline is a list of them. `dir(graphprune.passes)` lists what is installed, and
`graphprune.list_passes()["prune"]` says what the arguments of one mean.
"""

from __future__ import annotations

from graphprune.errors import did_you_mean
from graphprune.pipeline import registry
from graphprune.pipeline.passes import Pass


def _classes() -> dict[str, str]:
    """Name of the pass by name of its class; nothing is loaded for that."""
    claims = registry.DOOR.entries()
    return {entries[0].attr: name for name, entries in reversed(claims.items())}


def __getattr__(name: str) -> type[Pass]:
    """Load a pass on first use."""
    if name.startswith("_"):
        raise AttributeError(f"module 'graphprune.passes' has no attribute '{name}'")
    known = _classes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise AttributeError(f"no installed pass has the class '{name}': {hint}")
    return registry.load(known[name])


def __dir__() -> list[str]:
    return sorted(_classes())
