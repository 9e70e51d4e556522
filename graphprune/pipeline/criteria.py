"""Criteria by name: ours, and those of other packages through the entry-point group `graphprune.criteria`."""

from __future__ import annotations

import dataclasses

import numpy as np

from graphprune.axes.groups import Group
from graphprune.doors import Door, Origin, miscalled
from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.arrays import Doubles
from graphprune.ir.names import quote
from graphprune.prune.criteria import CRITERIA
from graphprune.prune.criterion import Criterion, Evidence
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.normalise import NORMALISERS
from graphprune.statistics.measures import Wanted

DOOR = Door("graphprune.criteria", "criterion")


def names() -> tuple[str, ...]:
    """Ours, then those of other packages, of which none is loaded; a name of ours stays ours."""
    return (*CRITERIA, *(name for name in DOOR.entries() if name not in CRITERIA))


def require(name: str) -> None:
    """Refuse a name that nobody gave to a criterion.

    Raises:
        ArgumentError: there is none.
    """
    if name not in CRITERIA and name not in (known := names()):
        raise ArgumentError(
            f"criterion: '{name}' is not one of {', '.join(known)}", did_you_mean(name, known)
        )


def load(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        ArgumentError: there is none.
        PluginError: the package that provides it does not load, or provides something else.
    """
    require(name)
    if name in CRITERIA:
        return CRITERIA[name]
    found, origin = DOOR.load(name)
    if not isinstance(found, Criterion):
        raise origin.fault("is not a graphprune.plugin.Criterion")
    if not callable(found.score) or not callable(found.needs):
        raise origin.fault("has a score or needs that is no function")
    wrong = miscalled("score", found.score, "group", "evidence")
    wrong = wrong or miscalled("needs", found.needs, "group", "places")
    if wrong:
        raise origin.fault(wrong)
    if found.normaliser not in NORMALISERS:
        raise origin.fault(f"names the normaliser '{found.normaliser}': known: {', '.join(NORMALISERS)}")
    return _guarded(found, origin)


def _guarded(criterion: Criterion, origin: Origin) -> Criterion:
    """The same, but whatever it does wrong is an error that names it."""

    def score(group: Group, evidence: Evidence) -> Doubles | None:
        with origin.blamed():
            values = criterion.score(group, evidence)
            if np.asarray(values).dtype.kind == "c":
                raise TypeError(f"scores of group '{group.id}' are complex numbers")
            found = None if values is None else np.asarray(values, np.float64)
        if found is None:
            return None
        if found.ndim not in (1, 2) or len(found) != group.size:
            shape = "x".join(map(str, found.shape)) or "one number"
            raise origin.fault(f"gives {shape} for group {quote(group.id)}, which has {group.size} Units")
        if not np.isfinite(found).all():
            raise origin.fault(f"gives numbers that are not finite for group {quote(group.id)}")
        return found

    def needs(group: Group, places: SiteIndex) -> Wanted:
        with origin.blamed():
            wanted = criterion.needs(group, places)
        if not isinstance(wanted, Wanted):
            raise origin.fault(f"has needs that give {type(wanted).__name__}, not Wanted")
        return wanted

    return dataclasses.replace(criterion, score=score, needs=needs if criterion.measures else criterion.needs)
