"""Moments of a Site: inputs behind the cut, results of the dense model, over the calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Array, Bools, Floats, Ids
from graphprune.prune.repair.remains import Remains
from graphprune.prune.repair.samples import Samples
from graphprune.prune.repair.solve import Moments, Seen
from graphprune.statistics import rows as row
from graphprune.statistics.measures import between
from graphprune.statistics.piece import Altered
from graphprune.statistics.rows import blocked
from graphprune.statistics.segments import Segment
from graphprune.statistics.sites import Site
from graphprune.statistics.stream import Stream

CHUNK = 8192
"""Rows whose products are summed in single precision before they join the double-precision sums."""
FOLDED_BYTES = 2**26
"""Second moments above this size are held once, not per fold."""


@dataclass(frozen=True)
class Part:
    """The part of a Site's matrix that is solved for: kept columns and rows of an ungrouped one, else all.

    Attributes:
        rows, columns: indices per block.
        keep: columns that stay among them, [blocks, columns].
        live: rows that stay among them, [blocks, rows].
    """

    rows: Ids
    columns: Ids
    keep: Bools
    live: Bools

    @staticmethod
    def of(remains: Remains) -> Part:
        """What is left to solve for."""
        keep, live = remains.keep, remains.rows
        if remains.site.blocks > 1:
            return Part(np.arange(live.shape[1]), np.arange(keep.shape[1]), keep, live)
        rows, columns = np.flatnonzero(live[0]), np.flatnonzero(keep[0])
        return Part(rows, columns, keep[:, columns], live[:, rows])

    def take(self, matrix: Floats) -> Floats:
        """The part of a whole matrix."""
        return matrix[:, self.rows[:, None], self.columns]

    def put(self, part: Floats, shape: tuple[int, ...], dtype: np.dtype) -> Floats:
        """A whole matrix, zero where rows or columns are gone; a few rows at a time."""
        whole: Floats = np.zeros(shape, dtype)
        step = max(1, CHUNK**2 // max(1, part.shape[0] * part.shape[2]))
        plain = bool(self.live.all() and self.keep.all())
        for start in range(0, len(self.rows), step):
            at = slice(start, start + step)
            mine = part[:, at] if plain else part[:, at] * self.live[:, at, None] * self.keep[:, None]
            whole[:, self.rows[at, None], self.columns] = mine
        return whole


def together(nodes: Sequence[Remains]) -> list[list[Remains]]:
    """Sites that multiply the same kept columns, such as queries, keys and values: they share a Gram."""
    found: dict[tuple[object, ...], list[Remains]] = {}
    for each in nodes:
        found.setdefault((row.signature(each.site), each.keep.tobytes()), []).append(each)
    return list(found.values())


def observe(
    dense: Stream,
    pruned: Stream,
    segment: Segment,
    group: Sequence[Remains],
    altered: Altered,
    folds: int,
    seed: int,
) -> list[Sequence[Seen]]:
    """What is known of Sites that share their inputs, each in folds of different samples.

    Args:
        dense: the dense model on its way, at the segment.
        pruned: the same model for the cut one, as far.
        segment: where the Sites are.
        group: one of those that `together` returns.
        altered: what makes the cut model of the dense one.
        folds: number of folds.
        seed: of their choice.
    """
    site, columns = group[0].site, Part.of(group[0]).columns
    most = row.enough(len(columns), row.REPAIRED)
    gathering = _Gathering(group, len(columns), folds)
    chance = np.random.default_rng(seed)
    edge = site.edge.name or ""
    names = [(each.site.edge if each.site.hidden else each.site.output).name or "" for each in group]
    pairs = zip(dense.tap(segment, names, onward=True), pruned.tap(segment, [edge], altered), strict=True)
    for number, (wanted, given) in enumerate(pairs):
        source = row.source(site, given[edge])
        valid = source.valid(dense.calibration.row_mask(site, number))
        chosen = dense.calibration.samplings[number].choose(site, valid, most)
        results = [_results(each, wanted[name]) for each, name in zip(group, names, strict=True)]
        samples, per_sample = _samples(site, wanted[names[0]], len(results[0]))
        fold = chance.integers(0, folds, samples)[chosen // per_sample]
        for index in range(folds):
            mine = chosen[fold == index]
            for start in range(0, len(mine), CHUNK):
                at = mine[start : start + CHUNK]
                x = np.asarray(source.take(at)[:, :, columns], np.float32)
                gathering.add(index, x, [np.asarray(result[at], np.float32) for result in results])
    return [gathering.seen(place) for place in range(len(group))]


def _results(each: Remains, found: Array) -> Array | _Computed:
    """What a Site computes in the dense model, [rows, outputs]; of a hidden one from what it reads."""
    return _Computed(each, found) if each.site.hidden else row.outputs(each.site, found)


class _Computed:
    """W x where it is no value of the graph, for the rows that are asked for."""

    def __init__(self, each: Remains, edge: Array) -> None:
        self._rows, self._weight = row.source(each.site, edge), each.weight

    def __len__(self) -> int:
        return len(self._rows.valid(None))

    def __getitem__(self, at: Ids) -> Array:
        found = self._rows.take(at) @ self._weight.transpose(0, 2, 1)
        return np.asarray(found.transpose(1, 0, 2).reshape(len(at), -1), np.float32)


def _samples(site: Site, output: Array, rows: int) -> tuple[int, int]:
    """Number of samples, and of rows of each: rows of one sample are much alike and share a fold."""
    samples = output.shape[0] if output.ndim > 2 or site.out_axis in (-1, output.ndim - 1) else 1
    return samples, max(1, rows // max(1, samples))


class _Gathering:
    """Samples of Sites that read the same: the rows themselves, until they are as many as the columns."""

    def __init__(self, group: Sequence[Remains], columns: int, folds: int) -> None:
        self._group, self._parts = group, [Part.of(each) for each in group]
        self._columns, self._count = columns, 0
        self._rows: list[list[tuple[Floats, list[Floats]]]] = [[] for _ in range(folds)]
        self._sums: list[_Sums] = []

    def add(self, fold: int, x: Floats, results: Sequence[Floats]) -> None:
        """Adds rows of a fold: x [blocks, rows, columns], and what each Site should give of them."""
        wanted = [
            blocked(result - each.own_bias, each.site.blocks)[:, :, part.rows]
            for each, part, result in zip(self._group, self._parts, results, strict=True)
        ]
        self._count += x.shape[1]
        if self._sums:
            self._sums[fold % len(self._sums)].add(x, wanted)
            return
        self._rows[fold].append((x, wanted))
        if self._count >= self._columns:
            self._sum()

    def seen(self, place: int) -> Sequence[Seen]:
        """What is known of a Site, fold by fold; folds that no row fell into say nothing."""
        if self._sums:
            return [total.moments(place) for total in self._sums]
        return [
            Samples(
                np.concatenate([x for x, _ in rows], axis=1),
                np.concatenate([wanted[place] for _, wanted in rows], axis=1),
            )
            for rows in self._rows
            if rows
        ]

    def _sum(self) -> None:
        """From rows to sums; very wide ones are held once, not per fold."""
        blocks = self._group[0].site.blocks
        large = 8 * blocks * self._columns**2 > FOLDED_BYTES
        shapes = [(blocks, len(part.rows)) for part in self._parts]
        self._sums = [_Sums(blocks, self._columns, shapes) for _ in range(1 if large else len(self._rows))]
        for fold, rows in enumerate(self._rows):
            for x, wanted in rows:
                self._sums[fold % len(self._sums)].add(x, wanted)
        self._rows = []


class _Waiting:
    """Rows that wait until they are many: a product passes over all of its sums, even for a few.

    Args:
        width: elements of a row.
    """

    def __init__(self, width: int) -> None:
        self._most = max(1, min(CHUNK, row.CHUNK_ELEMENTS // max(1, width)))
        self._parts: list[tuple[Floats, ...]] = []
        self._count = 0

    def add(self, *arrays: Floats) -> Iterator[tuple[Floats, ...]]:
        """Takes arrays [blocks, rows, any]; gives those that are to be multiplied now."""
        count = arrays[0].shape[1]
        if self._count and self._count + count > self._most:
            yield from self.rest()
        self._parts.append(arrays)
        self._count += count
        if self._count >= self._most:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[Floats, ...]]:
        """Whatever still waits."""
        parts, self._parts, self._count = self._parts, [], 0
        if len(parts) == 1:
            yield parts[0]
        elif parts:
            yield tuple(np.concatenate(each, axis=1) for each in zip(*parts, strict=True))


class _Sums:
    """Moments in the making, added to in place; the inputs are the same for all Sites of the group."""

    def __init__(self, blocks: int, columns: int, shapes: Sequence[tuple[int, int]]) -> None:
        self._count = 0.0
        self._x, self._xx = np.zeros((blocks, columns)), np.zeros((blocks, columns, columns))
        self._y = [np.zeros(shape) for shape in shapes]
        self._yx = [np.zeros((*shape, columns)) for shape in shapes]
        self._yy = [np.zeros(shape) for shape in shapes]
        self._waiting = _Waiting(blocks * columns)

    def add(self, x: Floats, results: Sequence[Floats]) -> None:
        """Adds rows, many at a time."""
        for first, *others in self._waiting.add(x, *results):
            self._add(first, others)

    def _add(self, x: Floats, results: Sequence[Floats]) -> None:
        """About their own mean first, then what lies between that and the mean so far."""
        one = row.about_mean(x)
        apart = between(self._count, self._x, one.count, one.sum)
        one.add_products(self._xx, one)
        row.add_outer(self._xx, apart, apart)
        for place, result in enumerate(results):
            two = row.about_mean(result)
            gap = between(self._count, self._y[place], two.count, two.sum)
            two.add_products(self._yx[place], one)
            row.add_outer(self._yx[place], gap, apart)
            self._yy[place] += two.squares + gap**2
            self._y[place] += two.sum
        self._x += one.sum
        self._count += one.count

    def moments(self, place: int) -> Moments:
        for first, *others in self._waiting.rest():
            self._add(first, others)
        return Moments(self._count, self._x, self._y[place], self._xx, self._yx[place], self._yy[place])
