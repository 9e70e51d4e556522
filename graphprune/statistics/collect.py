"""Measures a model on calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod
from operator import or_

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError
from graphprune.ir.arrays import Arrays
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import record_of
from graphprune.run import USUAL, Progress, Run
from graphprune.runtime.session import Feeds, Session
from graphprune.statistics import held
from graphprune.statistics.calibration import Calibration, sufficient
from graphprune.statistics.measures import Angle, Gram, Rank, Statistics, Vector, Wanted
from graphprune.statistics.measuring import Measuring, representatives
from graphprune.statistics.rows import GRAM_COLUMNS, SCORED
from graphprune.statistics.segments import Layout
from graphprune.statistics.sites import WHOLE_COLUMNS, Site, find_sites

__all__ = ["Angle", "Gram", "Rank", "Statistics", "Vector", "Wanted", "collect"]

WEIGHT_BYTES, TAP_BYTES = 2**28, 2**26
"""What one session may hold: bytes of weights, and of activations that it returns or reduces."""
RESIDENT_BYTES, RESIDENT_TAP_BYTES = 2**30, 2**28
"""Below both, all sessions stay open and see one batch after another: nothing is held between two segments.

Above, one session at a time sees all batches, because each keeps its weights and its memory for activations.
"""
GRAM_BYTES = 2**28
"""Grams beyond this lie in temporary files."""


def collect(
    model: ir.Model,
    batches: Sequence[Feeds],
    wanted: Wanted,
    *,
    rows: int | None = None,
    sizes: Sizes | None = None,
    run: Run = USUAL,
) -> Statistics:
    """Everything that is wanted, in one pass over the data, or over as much of it as second moments take.

    Args:
        model: a normalised model; only read.
        batches: input arrays by name.
        wanted: what to measure.
        rows: most rows of a Site that are looked at; None for as many as its columns take.
        sizes: of the values of the model, inferred if None.
        run: how it is run, and the seed of the choice of rows.

    Raises:
        ArgumentError: no such value or Site, or a value whose shape is not known.
        DataError: a whole Gram is wanted of more columns than can be held.
        ModelError: the model does not run.
    """
    if wanted.grams and rows is None and not (wanted.whole or wanted.ranks or wanted.angles):
        needs = [(site, site.columns) for site in find_sites(model, sizes)]
        batches = sufficient(model, batches, needs, SCORED)
    calibration = Calibration(model, batches, sizes=sizes, axes=wanted.axes, rows=rows, run=run)
    collecting = _Collecting(model, calibration, wanted, run.jobs)
    collecting.run(run.progress)
    return collecting.statistics()


class _Collecting:
    """One call of `collect`."""

    def __init__(self, model: ir.Model, calibration: Calibration, wanted: Wanted, jobs: int) -> None:
        self.model, self.calibration, self.wanted, self.jobs = model, calibration, wanted, jobs
        self.sites = representatives(calibration, wanted.grams)
        _not_too_wide(representatives(calibration, wanted.whole))
        self.layout = Layout(model, calibration.sizes)
        self.resident = _weight_bytes(model) <= RESIDENT_BYTES
        self.tasks = self._tasks()
        self.sessions: dict[int, Session | None] = {}
        self.held = held.Held()

    def run(self, progress: Progress) -> None:
        """Every batch through every segment; results do not depend on the order of the two loops."""
        done, total = 0, len(self.tasks) * len(self.calibration)
        for task, numbers in self._order():
            self._step(task, numbers)
            done += len(numbers)
            progress(done, total, "calibration")

    def statistics(self) -> Statistics:
        """What was measured."""
        none = Statistics(shared=self.calibration.shared)
        return reduce(or_, (task.statistics() for task in self.tasks), none)

    def _order(self) -> Iterator[tuple[Measuring, range]]:
        """Batches that run side by side, and what they run through."""
        count, step = len(self.calibration), self.jobs
        numbers = [range(start, min(start + step, count)) for start in range(0, count, step)]
        if self.resident:
            yield from ((task, some) for some in numbers for task in self.tasks)
            return
        for task in self.tasks:
            yield from ((task, some) for some in numbers)
            self.sessions.clear()

    def _step(self, task: Measuring, numbers: range) -> None:
        last = task is self.tasks[-1]
        key = task.segment.index
        if key not in self.sessions:
            self.sessions[key] = task.open(self.model, advance=not last)
        runs = self.calibration.runs(self.sessions[key], numbers, self.held)
        for number, found in zip(numbers, runs, strict=True):
            self._take(task, number, found, last)

    def _take(self, task: Measuring, number: int, found: Arrays, last: bool) -> None:
        task.add(number, found)
        gone = self.held[number] if last else [value.name or "" for value in task.segment.last_read]
        self.held.drop(number, list(gone))
        for value in () if last else task.segment.outputs:
            self.held.put(number, value.name or "", found[value.name or ""])

    def _tasks(self) -> list[Measuring]:
        """Segments with what is measured in each; none behind the last that measures something."""
        cuts = self._merged(self.layout.cuts(self.calibration.sites))
        meetings = {pair: max(map(self._made, pair)) for pair in sorted(set(self.wanted.angles))}
        value = self.calibration.places.value
        late = {value(name): at for pair, at in meetings.items() for name in pair}
        segments = self.layout.segments(cuts, self.calibration.sites, late)
        wanted = [Wanted() for _ in segments]

        def add(position: int, what: Wanted) -> None:
            number = int(np.searchsorted(cuts, position, "right")) - 1
            wanted[number] = wanted[number] | what

        whole = {self.calibration.shared[name] for name in self.wanted.whole}
        for site in self.sites:
            mine = frozenset([site.name])
            add(self.layout.position[site.node], Wanted(grams=mine, whole=mine & whole))
        for name in self.wanted.vectors:
            add(self._made(name), Wanted(vectors=frozenset([name])))
        for name in self.wanted.ranks:
            add(self._made(name), Wanted(ranks=frozenset([name])))
        for pair, at in meetings.items():
            add(at, Wanted(angles=(pair,)))
        while wanted and wanted[-1].empty:
            wanted.pop()
        elements = sum(_gram_elements(s) for s in self.sites if s.columns <= GRAM_COLUMNS or s.name in whole)
        zeros = held.pool(elements) if 8 * elements > GRAM_BYTES else np.zeros
        pairs = zip(segments, wanted, strict=False)
        return [Measuring(self.calibration, segment, what, zeros) for segment, what in pairs]

    def _made(self, name: str) -> int:
        """Position of the node that makes a value; graph inputs are there from the start."""
        return self.layout.made.get(self.calibration.places.value(name), 0)

    def _merged(self, cuts: Sequence[int]) -> list[int]:
        """Fewer cuts: stretches that hold as much as one session may."""
        actual = self._actual_sizes()
        measured = self.wanted.vectors | self.wanted.ranks
        edges_of = {site.name: site.edge for site in self.sites}
        kept: list[int] = []
        weights = taps = total = 0
        for cut, segment in zip(cuts, self.layout.segments(cuts, self.calibration.sites), strict=True):
            edges = {edges_of[site.name] for site in segment.sites if site.name in edges_of}
            edges |= {value for name, value in segment.made.items() if name in measured}
            more = sum(_bytes(actual.shapes.get(edge)) for edge in edges)
            full = weights + segment.weight_bytes > WEIGHT_BYTES or taps + more > TAP_BYTES
            if not kept or full:
                kept.append(cut)
                weights = taps = 0
            weights, taps, total = weights + segment.weight_bytes, taps + more, total + more
        self.resident = self.resident and total <= RESIDENT_TAP_BYTES
        return kept

    def _actual_sizes(self) -> Sizes:
        """Sizes with the shapes of the first batch."""
        if not self.calibration.batches:
            return Sizes()
        shapes = {name: np.shape(array) for name, array in self.calibration.batches[0].items()}
        return infer(self.model, record_of, shapes)


def _bytes(shape: tuple[tuple[int, int], ...] | None) -> int:
    return 0 if shape is None else 4 * prod(a for a, _ in shape)


def _not_too_wide(sites: Sequence[Site]) -> None:
    for site in sites:
        if site.columns > WHOLE_COLUMNS:
            raise DataError(
                f"{site.name} has {site.columns} input columns: the Gram matrix that is asked for would "
                f"take {8e-9 * site.columns**2:.1f} GB (the limit is {WHOLE_COLUMNS} columns)",
                "leave its inputs out with ignore=[...], or choose a criterion without second moments",
            )


def _gram_elements(site: Site) -> int:
    return site.blocks * (site.columns + 1) * site.columns


def _weight_bytes(model: ir.Model) -> int:
    tensors = {v.const_value for v in model.graph.initializers.values() if v.const_value is not None}
    return sum(tensor.nbytes for tensor in tensors)
