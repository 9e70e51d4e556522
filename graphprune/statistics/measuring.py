"""What is measured in one segment, and the sums so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import onnx_ir as ir

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.arrays import Arrays
from graphprune.ir.names import quote
from graphprune.runtime.session import Session
from graphprune.statistics import ranks
from graphprune.statistics.calibration import Calibration
from graphprune.statistics.measures import (
    Angle,
    Pair,
    Rank,
    Statistics,
    Sums,
    Vector,
    Wanted,
    added,
)
from graphprune.statistics.piece import AS_IS, Altered, open_piece
from graphprune.statistics.reductions import AngleReduction, VectorReduction
from graphprune.statistics.rows import Gathering, Zeros
from graphprune.statistics.segments import Segment
from graphprune.statistics.sites import Site


class Measuring:
    """Measures of one segment, batch by batch.

    Args:
        calibration: the data.
        segment: where to measure.
        wanted: what.
        zeros: makes the arrays of Grams.

    Raises:
        ArgumentError: there is no such value or Site, or the shape of a value is not known.
    """

    def __init__(self, calibration: Calibration, segment: Segment, wanted: Wanted, zeros: Zeros) -> None:
        place = calibration.places.place
        self.calibration, self.segment = calibration, segment
        self._vectors = [VectorReduction(place(name)) for name in sorted(wanted.vectors)]
        self._angles = [AngleReduction(place(a), place(b)) for a, b in sorted(set(wanted.angles))]
        self._ranks = {name: place(name).axis for name in sorted(wanted.ranks)}
        self._sites = representatives(calibration, wanted.grams)
        self.vectors: dict[str, Vector] = {}
        whole = {calibration.shared[name] for name in wanted.whole}
        self._grams = {site.name: Gathering(site, zeros, site.name in whole) for site in self._sites}
        self.ranks: dict[str, Rank] = {}
        self.angles: dict[Pair, Angle] = {}

    def open(self, model: ir.Model, altered: Altered = AS_IS, *, advance: bool) -> Session | None:
        """A session that computes what is measured, and with `advance` the outputs of the segment."""
        edges = (site.edge.name or "" for site in self._sites)
        return open_piece(
            model,
            self.calibration.sizes,
            self.segment,
            taps=[name for name in dict.fromkeys((*edges, *self._ranks)) if name in self.segment.made],
            reductions=[*self._vectors, *self._angles],
            altered=altered,
            advance=advance,
            runs=len(self.calibration),
        )

    def add(self, number: int, found: Arrays) -> None:
        """Add a batch, of which `found` holds everything that the session computed."""
        calibration = self.calibration
        samples, mask = calibration.samples(number), calibration.masks[number]
        sampling = calibration.samplings[number]
        for vector in self._vectors:
            _add(self.vectors, vector.place.name, vector.read(found, samples, mask))
        for angle in self._angles:
            _add(self.angles, (angle.one.name, angle.two.name), angle.read(found, mask))
        for name, axis in self._ranks.items():
            _add(self.ranks, name, ranks.rank(found[name], axis, sampling.share))
        for site in self._sites:
            edge, valid = found[site.edge.name or ""], calibration.row_mask(site, number)
            self._grams[site.name].add(edge, sampling, valid)

    def statistics(self) -> Statistics:
        """The sums so far."""
        grams = {name: gathering.found for name, gathering in self._grams.items()}
        return Statistics(self.vectors, grams, self.ranks, self.angles, self.calibration.shared)


def representatives(calibration: Calibration, names: Iterable[str]) -> list[Site]:
    """The Sites whose Grams stand for those of these Sites.

    Raises:
        ArgumentError: there is no such Site.
    """
    shared = calibration.shared
    for name in sorted(names):
        if name not in shared:
            raise ArgumentError(f"no node multiplies by a weight {quote(name)}", did_you_mean(name, shared))
    wanted = {shared[name] for name in names}
    return [site for site in calibration.sites if site.name in wanted]


Key = TypeVar("Key", Pair, str)


def _add(total: dict[Key, Sums], key: Key, part: Sums) -> None:
    total[key] = added(total[key], part) if key in total else part
