"""Scores of Groups by one criterion, made comparable; what it cannot score falls back to weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphprune.axes.analyse import Analysis
from graphprune.axes.groups import Group
from graphprune.axes.kinds import Kind
from graphprune.errors import ArgumentError, ModelError
from graphprune.ir.arrays import Scores
from graphprune.ir.names import quote
from graphprune.prune.criteria import CRITERIA
from graphprune.prune.criterion import Criterion, Evidence, not_finite
from graphprune.prune.evidence import SiteIndex
from graphprune.prune.gradients import Gradients, Reading
from graphprune.prune.normalise import Normaliser, normalised
from graphprune.prune.saliency import Weights
from graphprune.statistics.measures import Statistics, Wanted

FALLBACK = "l2"
Differentiate = Callable[[Analysis, tuple[Group, ...], tuple[Reading, ...]], Gradients]


@dataclass(frozen=True)
class Scoring:
    """How Units are scored.

    Attributes:
        name: what the user calls the criterion.
        criterion: of weights or of data.
        normalise: how Groups become comparable; auto: as the criterion was made.
        seed: of random scores.
    """

    name: str
    criterion: Criterion
    normalise: Normaliser = "auto"
    seed: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether the name says what the criterion is."""
        return CRITERIA.get(self.name) is self.criterion

    @property
    def normaliser(self) -> str:
        """The one given, or the criterion's own."""
        return self.criterion.normaliser if self.normalise == "auto" else self.normalise


def score(
    analysis: Analysis,
    groups: tuple[Group, ...],
    scoring: Scoring,
    kinds: Mapping[str, Kind],
    collect: Callable[[Wanted], Statistics] | None,
    warn: Callable[[str], None],
    differentiate: Differentiate | None = None,
) -> dict[str, Scores]:
    """One number per Unit of each Group; higher = keep.

    Args:
        analysis: of the model whose weights are read.
        groups: what to score.
        scoring: by which criterion.
        kinds: what the Units of each Group are, by its id.
        collect: measures on calibration data; None where there is none, and the criterion does without.
        warn: told which Groups fell back to weights.
        differentiate: measures gradients; None where the criterion reads none.

    Raises:
        ArgumentError: bn-scale without data for a Group whose scale was folded away.
        ModelError: a score is not finite.
    """
    places, criterion = SiteIndex(analysis), scoring.criterion
    wanted = Wanted() if collect is None else criterion.wanted(groups, places)
    statistics = Statistics() if collect is None or wanted.empty else collect(wanted)
    gradients = differentiate(analysis, groups, criterion.gradients) if differentiate else Gradients()
    evidence = Evidence(places, statistics, Weights(analysis), kinds, seed=scoring.seed, gradients=gradients)
    by_weights = wanted.empty and not criterion.gradients
    found: dict[str, Scores] = {}
    still: list[Group] = []
    for group in groups:
        values = criterion.score(group, evidence)
        if values is not None and not np.isfinite(values).all():
            raise _unranked(group, by_weights)
        if values is not None and (by_weights or values.any()):
            found[group.id] = values
        elif places.sinks(group):
            still.append(group)
    blind = tuple(group for group in groups if group.id not in found and group not in still)
    reasons = {
        f"has nothing to measure at {len(blind)} groups": blind,
        f"saw nothing that varies at {len(still)} groups on the calibration data": tuple(still),
    }
    level = float(np.mean([values.mean() for values in found.values()])) if found else 1.0
    for why, left in reasons.items():
        if left:
            names = ", ".join(group.id for group in left[:4]) + (", ..." if len(left) > 4 else "")
            warn(f"criterion={scoring.name} {why}, scored by {FALLBACK}: {names}")
        found |= {group.id: _by_norm(group, scoring, evidence) * (level or 1.0) for group in left}
    sign = 1 if criterion.higher else -1
    return {name: sign * normalised(values, scoring.normaliser) for name, values in found.items()}


def _unranked(group: Group, by_weights: bool) -> ModelError:
    """The error of scores that are not finite."""
    if not by_weights:
        return not_finite(f"group {quote(group.id)}")
    return ModelError(
        f"the weights of group '{group.id}' are not all finite, so they cannot be ranked",
        "replace Inf and NaN in the model, or exclude the group with ignore=[...]",
    )


def _by_norm(group: Group, scoring: Scoring, evidence: Evidence) -> Scores:
    """Norms, the least salient where the criterion has it."""
    values = CRITERIA[FALLBACK].score(group, evidence)
    assert values is not None
    if not np.isfinite(values).all():
        raise _unranked(group, by_weights=True)
    return values if scoring.criterion.higher else values.max() + values.min() - values


def score_groups(
    analysis: Analysis, groups: tuple[Group, ...], criterion: str, seed: int = 0
) -> dict[str, Scores]:
    """Scores every Unit of every given Group by a criterion of ours that reads weights alone; higher = keep.

    Raises:
        ArgumentError: there is no such criterion, or it needs calibration data.
        ModelError: a score is not finite, because a weight is not.
    """
    known = CRITERIA.get(criterion)
    if known is None or not _alone(known):
        alone = [name for name, each in CRITERIA.items() if _alone(each)]
        raise ArgumentError(
            f"criterion: '{criterion}' cannot score by weights alone", f"known: {', '.join(alone)}"
        )
    how = Scoring(criterion, known, "none", seed)
    return score(analysis, groups, how, {}, None, lambda line: None)


def _alone(criterion: Criterion) -> bool:
    """Whether weights are enough."""
    return not criterion.gradients and (criterion.optional or not criterion.measures)
