"""Moments of a Site: inputs behind the cut, results of the dense model, over the calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphprune.prune.repair.remains import Remains
from graphprune.prune.repair.solve import Moments
from graphprune.statistics import rows as row
from graphprune.statistics.segments import Segment
from graphprune.statistics.sites import Site
from graphprune.statistics.stream import Stream

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
CHUNK = 8192
"""Rows whose products are summed in single precision before they join the double-precision sums."""


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
    keep: npt.NDArray[np.bool_]
    live: npt.NDArray[np.bool_]

    @staticmethod
    def of(remains: Remains) -> Part:
        """What is left to solve for."""
        keep, live = remains.keep, remains.rows
        if remains.site.blocks > 1:
            return Part(np.arange(live.shape[1]), np.arange(keep.shape[1]), keep, live)
        rows, columns = np.flatnonzero(live[0]), np.flatnonzero(keep[0])
        return Part(rows, columns, keep[:, columns], live[:, rows])

    def take(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The part of a whole matrix."""
        return matrix[:, self.rows][:, :, self.columns]

    def put(self, part: npt.NDArray[np.float64], like: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A whole matrix, zero where rows or columns are gone."""
        whole = np.zeros_like(like)
        whole[:, self.rows[:, None], self.columns] = part * self.live[:, :, None] * self.keep[:, None]
        return whole


def observe(
    dense: Stream,
    pruned: Stream,
    segment: Segment,
    remains: Remains,
    replaced: Arrays,
    biases: Arrays,
    folds: int,
    seed: int,
) -> list[Moments]:
    """Moments of a Site, in folds of different samples.

    Args:
        dense: the dense model on its way, at the segment.
        pruned: the same model for the cut one, as far.
        segment: where the Site is.
        remains: of the Site.
        replaced: contents of initializers that make the cut model of the dense one.
        biases: vectors added to results of Sites.
        folds: number of folds.
        seed: of their choice.
    """
    site, part = remains.site, Part.of(remains)
    shape = (site.blocks, len(part.rows), len(part.columns))
    sums = [_Sums(*shape) for _ in range(folds)]
    chance = np.random.default_rng(seed)
    output, edge = site.output.name or "", site.edge.name or ""
    pairs = zip(dense.tap(segment, [output]), pruned.tap(segment, [edge], replaced, biases), strict=True)
    for number, (wanted, given) in enumerate(pairs):
        source = row.source(site, given[edge])
        valid = source.valid(dense.calibration.row_mask(site, number))
        chosen = dense.calibration.samplings[number].choose(site, valid)
        results = row.outputs(site, wanted[output])
        samples, per_sample = _samples(site, wanted[output], len(results))
        fold = chance.integers(0, folds, samples)[chosen // per_sample]
        for index, total in enumerate(sums):
            mine = chosen[fold == index]
            for start in range(0, len(mine), CHUNK):
                at = mine[start : start + CHUNK]
                y = np.asarray(results[at], np.float32) - remains.own_bias
                x = np.asarray(source.take(at)[:, :, part.columns], np.float32)
                total.add(x, _blocked(y, site.blocks)[:, :, part.rows])
    return [total.moments for total in sums]


def _samples(site: Site, output: Array, rows: int) -> tuple[int, int]:
    """Number of samples, and of rows of each: rows of one sample are much alike and share a fold."""
    samples = output.shape[0] if output.ndim > 2 or site.out_axis in (-1, output.ndim - 1) else 1
    return samples, max(1, rows // max(1, samples))


def _blocked(results: Floats, blocks: int) -> Floats:
    shaped: Floats = results.reshape(len(results), blocks, -1).transpose(1, 0, 2)
    return shaped


class _Sums:
    """Moments in the making, added to in place."""

    def __init__(self, blocks: int, rows: int, columns: int) -> None:
        self.count = 0.0
        self.x, self.y = np.zeros((blocks, columns)), np.zeros((blocks, rows))
        self.xx, self.yx = np.zeros((blocks, columns, columns)), np.zeros((blocks, rows, columns))
        self.yy = np.zeros((blocks, rows))

    def add(self, x: Floats, y: Floats) -> None:
        self.count += x.shape[1]
        self.x += x.sum(axis=1, dtype=np.float64)
        self.y += y.sum(axis=1, dtype=np.float64)
        self.xx += np.matmul(x.transpose(0, 2, 1), x)
        self.yx += np.matmul(y.transpose(0, 2, 1), x)
        self.yy += np.einsum("bnr,bnr->br", y, y, dtype=np.float64)

    @property
    def moments(self) -> Moments:
        return Moments(self.count, self.x, self.y, self.xx, self.yx, self.yy)
