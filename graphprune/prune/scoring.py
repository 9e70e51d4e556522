"""Scores of Groups by one criterion, made comparable; what it cannot score falls back to weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.ir.arrays import Scores
from graphprune.ir.names import quote
from graphprune.prune.criteria import CRITERIA, Bars, Evidence, not_finite, wanted
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.kinds import Kind
from graphprune.prune.normalise import OWN, Normaliser, normalised
from graphprune.prune.saliency import Weights, batch_norm_slices, score_groups
from graphprune.statistics.measures import Statistics, Wanted

FALLBACK = "l2"


@dataclass(frozen=True)
class Scoring:
    """How Units are scored.

    Attributes:
        criterion: name of a criterion of weights or of data.
        normalise: how Groups become comparable; auto: as the criterion was made.
        seed: of random scores.
        bars: how cfsp compares weights.
    """

    criterion: str
    normalise: Normaliser = "auto"
    seed: int = 0
    bars: Bars = "row"

    @property
    def normaliser(self) -> str:
        """The one given, or the criterion's own."""
        return OWN.get(self.criterion, "mean") if self.normalise == "auto" else self.normalise

    def needs_data(self, groups: tuple[Group, ...]) -> bool:
        """Whether these Groups cannot be scored by weights alone."""
        if self.criterion == "bn-scale":
            return any(not batch_norm_slices(group) for group in groups)
        return self.criterion in CRITERIA


def score(
    analysis: Analysis,
    groups: tuple[Group, ...],
    scoring: Scoring,
    kinds: Mapping[str, Kind],
    collect: Callable[[Wanted], Statistics] | None,
    warn: Callable[[str], None],
) -> dict[str, Scores]:
    """One number per Unit of each Group; higher = keep.

    Args:
        analysis: of the model whose weights are read.
        groups: what to score.
        scoring: by which criterion.
        kinds: what the Units of each Group are, by its id.
        collect: measures on calibration data; None where there is none.
        warn: told which Groups fell back to weights.

    Raises:
        ArgumentError: bn-scale without data for a Group whose scale was folded away.
        ModelError: a score is not finite.
    """
    if collect is None or not scoring.needs_data(groups):
        found = score_groups(analysis, groups, scoring.criterion, scoring.seed)
    else:
        found = _by_data(analysis, groups, scoring, kinds, collect, warn)
    return {name: normalised(values, scoring.normaliser) for name, values in found.items()}


def _by_data(
    analysis: Analysis,
    groups: tuple[Group, ...],
    scoring: Scoring,
    kinds: Mapping[str, Kind],
    collect: Callable[[Wanted], Statistics],
    warn: Callable[[str], None],
) -> dict[str, Scores]:
    places = SiteIndex(analysis)
    statistics = collect(wanted(scoring.criterion, groups, places))
    evidence = Evidence(places, statistics, Weights(analysis), kinds, bars=scoring.bars)
    found: dict[str, Scores] = {}
    still: list[Group] = []
    for group in groups:
        values = CRITERIA[scoring.criterion].score(group, evidence)
        if values is not None and not np.isfinite(values).all():
            raise not_finite(f"group {quote(group.id)}")
        if values is not None and values.any():
            found[group.id] = values
        elif places.sinks(group):
            still.append(group)
    blind = tuple(group for group in groups if group.id not in found and group not in still)
    by_weight = _by_weight(
        analysis, blind, scoring, found, warn, f"has nothing to measure at {len(blind)} groups"
    )
    why = f"saw nothing that varies at {len(still)} groups on the calibration data"
    return found | by_weight | _by_weight(analysis, tuple(still), scoring, found, warn, why)


def _by_weight(
    analysis: Analysis,
    groups: tuple[Group, ...],
    scoring: Scoring,
    others: Mapping[str, Scores],
    warn: Callable[[str], None],
    why: str,
) -> dict[str, Scores]:
    """Norms for Groups without evidence, at the level of the other Groups' scores."""
    if not groups:
        return {}
    names = ", ".join(group.id for group in groups[:4]) + (", ..." if len(groups) > 4 else "")
    warn(f"criterion={scoring.criterion} {why}, scored by {FALLBACK}: {names}")
    level = float(np.mean([values.mean() for values in others.values()])) if others else 1.0
    found = score_groups(analysis, groups, FALLBACK, scoring.seed)
    return {name: values * (level or 1.0) for name, values in found.items()}
