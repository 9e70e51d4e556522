"""What a criterion is: a score per Unit, what it has to know for it, and how its scores are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from graphprune.axes.groups import Group
from graphprune.axes.kinds import Kind
from graphprune.errors import ModelError
from graphprune.ir.arrays import Doubles
from graphprune.prune.evidence import Output, Sink, SiteIndex, joined
from graphprune.prune.gradients import Gradients, Reading
from graphprune.prune.normalise import Normaliser
from graphprune.prune.saliency import Weights
from graphprune.statistics.measures import Statistics, Wanted


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a criterion may read.

    Attributes:
        places: where Groups meet Sites.
        statistics: what the criterion needs of the calibration data.
        weights: reads initializers.
        kinds: what the Units of each Group are.
        damping: share of a Gram's mean diagonal that is added to it before it is inverted; None for what its
            rows are good for.
        seed: of everything random.
        gradients: what the criterion reads of them.
    """

    places: SiteIndex
    statistics: Statistics
    weights: Weights
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    damping: float | None = None
    seed: int = 0
    gradients: Gradients = field(default_factory=Gradients)


Score = Callable[[Group, Evidence], "Doubles | None"]
Needs = Callable[[Group, SiteIndex], Wanted]


def nothing(group: Group, places: SiteIndex) -> Wanted:
    """No data: weights say it all."""
    return Wanted()


def inputs(group: Group, places: SiteIndex) -> Wanted:
    """Sums per channel of what the weights that read a Group are multiplied with."""
    sinks = places.sinks(group)
    return Wanted(vectors=frozenset(site.edge.name or "" for sink in sinks for site in sink.readers))


def moments(group: Group, places: SiteIndex) -> Wanted:
    """Second moments of the same, and how far the results vary."""
    sites = [site for sink in places.sinks(group) for site in sink.readers]
    ends = {joined(site.output).name or "": site.out_axis for site in sites if not site.hidden}
    return Wanted(frozenset(ends), frozenset(site.name for site in sites), axes=ends)


def outputs(group: Group, places: SiteIndex) -> Wanted:
    """Sums per channel of what the sources of a Group compute."""
    return _vectors(places.outputs(group))


def activations(group: Group, places: SiteIndex) -> Wanted:
    """The same, behind the activations that follow."""
    return _vectors(places.activations(group))


def _vectors(found: list[Output]) -> Wanted:
    return Wanted(vectors=frozenset(o.name for o in found), axes={o.name: o.axis for o in found})


def ranks(group: Group, places: SiteIndex) -> Wanted:
    """Ranks of the maps behind the activations of a Group's sources."""
    found = places.activations(group)
    return Wanted(ranks=frozenset(o.name for o in found), axes={o.name: o.axis for o in found})


def by_sink(score: Callable[[Sink, Evidence], Doubles]) -> Score:
    """A score per column of every Site that reads the Group, summed over a Unit's columns and over Sites."""

    def total(group: Group, evidence: Evidence) -> Doubles | None:
        sinks = evidence.places.sinks(group)
        if not sinks:
            return None
        found = np.zeros(group.size)
        for sink in sinks:
            found += np.bincount(sink.units, weights=score(sink, evidence), minlength=group.size)
        return found

    return total


def by_output(score: Callable[[Output, Evidence], Doubles], activated: bool = False) -> Score:
    """A score per channel of what every source computes, averaged over a Unit's channels and over sources.

    Args:
        score: of one value.
        activated: whether values are taken behind the activations that follow.
    """

    def mean(group: Group, evidence: Evidence) -> Doubles | None:
        places = evidence.places
        found = places.activations(group) if activated else places.outputs(group)
        scores = [value.per_unit(group.size, score(value, evidence)) for value in found]
        return np.asarray(np.mean(scores, axis=0)) if scores else None

    return mean


@dataclass(frozen=True)
class Criterion:
    """How Units are scored.

    Attributes:
        score: one number per Unit of a Group, or [Units, columns] where a method normalises columns before it
            averages them over a Unit (heads in FLAP); None for a Group that it has nothing to read of.
        about: the score in a few words or a formula.
        needs: what it must know of a Group from calibration data.
        normaliser: what makes scores of different Groups comparable, unless the user says `normalise=`.
        higher: whether Units of higher scores stay; those of lower scores otherwise.
        optional: whether it also scores without calibration data, as far as weights say.
        gradients: what it must know of them; that needs torch.
    """

    score: Score
    about: str = ""
    needs: Needs = nothing
    normaliser: Normaliser = "mean"
    higher: bool = True
    optional: bool = False
    gradients: tuple[Reading, ...] = ()

    def __str__(self) -> str:
        data = ["calibration data"] if self.measures and not self.optional else []
        needed = " and ".join([*data, "torch"] if self.gradients else data)
        needs = f"; needs {needed}" if needed else ""
        return f"{self.about or 'no description'}{needs}{'' if self.higher else '; lower scores stay'}"

    @property
    def measures(self) -> bool:
        """Whether it reads calibration data."""
        return self.needs is not nothing or not all(reading.blind for reading in self.gradients)

    def wanted(self, groups: tuple[Group, ...], places: SiteIndex) -> Wanted:
        """Everything that it must know to score these Groups."""
        total = Wanted()
        for group in groups:
            total = total | self.needs(group, places)
        return total


def not_finite(what: str) -> ModelError:
    """The error of what holds Inf or NaN."""
    return ModelError(
        f"{what}: the numbers are not all finite, so nothing can be ranked",
        "look for Inf and NaN in the model and the calibration data, or exclude it with ignore=[...]",
    )
