"""Runs calibration data through a model segment by segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Arrays
from graphprune.ir.shapes import Sizes
from graphprune.run import USUAL, Run
from graphprune.runtime.session import Feeds, Session
from graphprune.statistics.calibration import Calibration
from graphprune.statistics.held import Held
from graphprune.statistics.measures import Statistics, Vector, Wanted
from graphprune.statistics.measuring import Measuring
from graphprune.statistics.piece import AS_IS, Altered, open_piece
from graphprune.statistics.segments import Layout, Segment
from graphprune.statistics.sites import Site


class Stream:
    """Calibration data on its way through a model; only values between two segments are held.

    Segments are taken in order: `tap` and `measure` look at the next one, `advance` leaves it behind. All
    of them take weights to run with instead of the model's own.

    Args:
        model: only read; weights of a model in files stay there.
        batches: input arrays by name.
        sites: of the model, found if None.
        sizes: of the values of the model, inferred if None.
        cuts: positions of the first nodes of segments; where few values are alive if None.
        run: how it is run, and the seed of the choice of rows.
    """

    def __init__(
        self,
        model: ir.Model,
        batches: Sequence[Feeds],
        sites: Sequence[Site] | None = None,
        *,
        sizes: Sizes | None = None,
        cuts: Sequence[int] | None = None,
        run: Run = USUAL,
    ) -> None:
        self.model = model
        self.calibration = Calibration(model, batches, sites, sizes=sizes, run=run)
        layout = Layout(model, self.calibration.sizes)
        found = self.calibration.sites
        self.segments: tuple[Segment, ...] = layout.segments(
            layout.cuts(found) if cuts is None else cuts, found
        )
        self._held = Held()
        self._next, self._ahead = 0, -1

    def tap(
        self,
        segment: Segment,
        values: Sequence[str],
        altered: Altered = AS_IS,
        onward: bool = False,
    ) -> Iterator[dict[str, Array]]:
        """Raw values batch by batch: made in the segment, or read by it from before.

        With `onward` the same run computes what later segments read, so that `advance` need not run again: it
        then leaves the segment with these weights.
        """
        segment = self._current(segment)
        onward = onward and self._ahead != segment.index
        session = open_piece(
            self.model,
            self.calibration.sizes,
            segment,
            taps=[name for name in dict.fromkeys(values) if name in segment.made],
            altered=altered,
            advance=onward,
            runs=len(self.calibration),
        )
        for number, found in enumerate(self._runs(session)):
            if onward:
                self._hold(segment, number, found)
            yield {name: found[name] for name in values}
        if onward:
            self._ahead = segment.index

    def measure(
        self,
        segment: Segment,
        wanted: Wanted,
        altered: Altered = AS_IS,
    ) -> Statistics:
        """Measures of values and Sites of the segment, in one run that ends at the last of them."""
        measuring = Measuring(self.calibration, self._current(segment), wanted, np.zeros)
        session = measuring.open(self.model, altered, advance=False)
        for number, found in enumerate(self._runs(session)):
            measuring.add(number, found)
        return measuring.statistics()

    def vectors(
        self,
        segment: Segment,
        values: Sequence[str],
        altered: Altered = AS_IS,
    ) -> Mapping[str, Vector]:
        """Sums of values of the segment over all batches."""
        return self.measure(segment, Wanted(vectors=frozenset(values)), altered).vectors

    def advance(self, segment: Segment, altered: Altered = AS_IS) -> None:
        """Run the segment with these weights; what later segments read is held, the rest is forgotten."""
        segment = self._current(segment)
        self._next += 1
        session, ready = None, self._ahead == segment.index
        if segment.outputs and not ready:
            session = open_piece(
                self.model,
                self.calibration.sizes,
                segment,
                altered=altered,
                runs=len(self.calibration),
            )
        nothing: Iterable[Arrays] = repeat({}, len(self.calibration))
        for number, found in enumerate(nothing if ready else self._runs(session)):
            self._held.drop(number, [value.name or "" for value in segment.last_read])
            if not ready:
                self._hold(segment, number, found)

    def follow(self, other: Stream) -> None:
        """Go on from where another Stream of the same segments is: so far both computed the same."""
        self._next = other._next
        for number in range(len(self.calibration)):
            for name, array in other._held[number].items():
                self._held.put(number, name, array)

    def _hold(self, segment: Segment, number: int, found: Arrays) -> None:
        """Keeps what later segments read of a batch."""
        for value in segment.outputs:
            self._held.put(number, value.name or "", found[value.name or ""])

    def _runs(self, session: Session | None) -> Iterator[dict[str, Array]]:
        return self.calibration.runs(session, range(len(self.calibration)), self._held)

    def _current(self, segment: Segment) -> Segment:
        """The own segment of that number: two Streams of one model have equal ones."""
        assert segment.index == self._next, "segments are taken in order"
        return self.segments[segment.index]
