"""Weights on a grid: the codes whose numbers come closest, in what they give, to what least squares asks for.

Rounding each number to its nearest code leaves errors that add up in the result. Here they make up for each
other: columns are rounded one after the other, each after the errors so far (the nearest plane of Babai, On
Lovasz' lattice reduction, 1986; GPTQ, arXiv 2210.17323, is the same), for narrow weights along the best
few ways (K-best decoding); then single codes move as long as the loss falls (CDQuant, arXiv 2406.17542).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Array, Doubles, Floats, Ids
from graphprune.prune.repair.solve import Seen
from graphprune.statistics.sites import Site

SWEEPS = 20
"""Most times that all columns are gone through."""
WORK = 2e10
"""Multiplications after which descent stops: wide layers have little left to gain from another sweep."""
WIDE = 2048
"""Most columns that make up for each other's rounding; of wider layers, as many at a time."""
NARROW = 9
"""Columns up to which several ways are followed: those of a depthwise kernel."""
NEIGHBOURS = (0.0, 1.0, -1.0, 2.0, -2.0)
"""Steps beside the code next to where a column is wanted."""
WAYS = 24
"""Followed side by side."""
ROUNDING = 1e-12
"""Share of a column's energy below which a gain is none."""
LEAST = 1e-9
"""Share of the mean diagonal that keeps the metric positive."""


@dataclass(frozen=True)
class Lattice:
    """The numbers that the elements of a matrix can have: (code - zero) * scale.

    Attributes:
        scale, zero: of each element, in the shape of the matrix.
        low, high: least and largest code.
    """

    scale: Doubles
    zero: Doubles
    low: float
    high: float

    @staticmethod
    def of(site: Site) -> Lattice | None:
        """That of a Site's matrix; None where it is stored as floats."""
        grid = site.stored.grid
        if grid is None:
            return None
        scale, zero = (
            np.asarray(site.arranged(np.broadcast_to(each, site.shape)), np.float64)
            for each in (grid.scale, grid.zero)
        )
        return Lattice(scale * site.scale, zero, grid.low, grid.high)

    def at(self, rows: Array, columns: Array) -> Lattice:
        """That of a part of the matrix."""
        scale, zero = (each[:, rows][:, :, columns] for each in (self.scale, self.zero))
        return Lattice(scale, zero, self.low, self.high)

    def values(self, codes: Doubles) -> Doubles:
        """What codes stand for."""
        return (codes - self.zero) * self.scale

    def nearest(self, wanted: Doubles) -> Doubles:
        """The codes next to these numbers."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(self.scale != 0, wanted / self.scale, 0.0) + self.zero
        return np.asarray(np.clip(np.rint(found), self.low, self.high))


def settle(wanted: Doubles, lattice: Lattice, seen: Seen, biased: bool, damping: float) -> Doubles:
    """Codes for a weight; row by row never worse on what is known than those next to the wanted numbers.

    Args:
        wanted: the real-valued refit, [blocks, rows, columns].
        lattice: of the same shape.
        seen: what it was fitted to.
        biased: whether a bias takes up the means.
        damping: of the refit, which is the least of the loss and this ridge together.
    """
    near = lattice.nearest(wanted)
    best = near.copy()
    for start in range(0, wanted.shape[2], WIDE):
        at = slice(start, start + WIDE)
        metric = np.stack([seen.metric(block, at, biased) for block in range(len(wanted))])
        part = Lattice(lattice.scale[:, :, at], lattice.zero[:, :, at], lattice.low, lattice.high)
        best[:, :, at] = _Descent(wanted[:, :, at], part, _damped(metric, damping)).run()
    return no_worse(best, lattice, near, seen, biased)


def no_worse(best: Doubles, lattice: Lattice, near: Doubles, seen: Seen, biased: bool) -> Doubles:
    """The codes that were found, but the nearest ones for rows that these are better for."""
    worse = _loss(lattice.values(best), seen, biased) > _loss(lattice.values(near), seen, biased)
    return np.where(worse[:, :, None], near, best)


def _damped(metric: Doubles, damping: float) -> Doubles:
    """The metric of each block with its ridge, in place; columns that never vary count alike."""
    for block in metric:
        level = float(np.diagonal(block).mean()) if len(block) else 0.0
        block[np.diag_indices_from(block)] += max(damping, LEAST) * level if level > 0 else 1.0
    return metric


def _loss(weight: Doubles, seen: Seen, biased: bool) -> Doubles:
    bias = seen.offset(weight) if biased else np.zeros(weight.shape[:2])
    return seen.loss(weight, bias)


class _Descent:
    """Codes [blocks, rows, columns] on their way to a lower (w - wanted)' H (w - wanted), row by row."""

    def __init__(self, wanted: Doubles, lattice: Lattice, metric: Doubles) -> None:
        self.wanted, self.lattice, self.metric = wanted, lattice, metric
        self.columns = slice(0, wanted.shape[2])
        self.narrow = wanted.shape[2] <= NARROW

    def run(self) -> Doubles:
        """The best of both starts."""
        ends = [self._descended(start) for start in (self.lattice.nearest(self.wanted), self._planes())]
        better = self._losses(ends[1]) < self._losses(ends[0])
        return np.where(better[:, :, None], ends[1], ends[0])

    def _losses(self, codes: Doubles) -> Doubles:
        errors = self.lattice.values(codes) - self.wanted
        return np.asarray(np.einsum("brc,brc->br", errors @ self.metric, errors))

    def _planes(self) -> Doubles:
        """Rounded column by column, the heaviest first, each where the errors so far want it.

        Of narrow weights the best few ways are followed side by side, as decoders of lattices do.
        """
        energy = np.diagonal(self.metric, axis1=1, axis2=2).sum(axis=0)
        order = np.argsort(energy, kind="stable")
        try:
            upper = np.linalg.cholesky(self.metric[:, order[:, None], order]).transpose(0, 2, 1)
        except np.linalg.LinAlgError:
            return self.lattice.nearest(self.wanted)
        ways = _Ways(self.wanted, NEIGHBOURS if self.narrow else NEIGHBOURS[:1], WAYS if self.narrow else 1)
        for place in range(len(order) - 1, -1, -1):
            ways.go(order[place], order[place + 1 :], upper[:, place, place:], self._column(order[place]))
        return ways.codes[:, :, 0]

    def _column(self, column: int) -> Lattice:
        scale, zero = self.lattice.scale[:, :, column], self.lattice.zero[:, :, column]
        return Lattice(scale, zero, self.lattice.low, self.lattice.high)

    def _descended(self, start: Doubles) -> Doubles:
        codes = start.copy()
        pull = (self.lattice.values(codes) - self.wanted) @ self.metric
        sweep = max(1.0, float(codes.size) * codes.shape[2])
        for _ in range(max(1, min(SWEEPS, int(WORK / sweep)))):
            moving = np.flatnonzero(self._steps(codes, pull, self.columns).any(axis=(0, 1))).tolist()
            for column in moving:
                self._move(codes, pull, column)
            if not moving:
                break
        return codes

    def _steps(self, codes: Doubles, pull: Doubles, at: slice) -> Doubles:
        """Whole steps within bounds to where the loss is least; none where nothing is gained."""
        scale, codes, pull = self.lattice.scale[:, :, at], codes[:, :, at], pull[:, :, at]
        curve = np.diagonal(self.metric, axis1=1, axis2=2)[:, None, at]
        steps = np.rint(np.divide(-pull, curve * scale, out=np.zeros_like(pull), where=scale != 0))
        steps = np.clip(codes + steps, self.lattice.low, self.lattice.high) - codes
        gain = steps * scale * (2 * pull + steps * scale * curve)
        return np.where(gain < -ROUNDING * curve, steps, 0.0)

    def _move(self, codes: Doubles, pull: Doubles, column: int) -> None:
        """Moves one code of every row for which it pays."""
        steps = self._steps(codes, pull, slice(column, column + 1))[:, :, 0]
        blocks, rows = np.nonzero(steps)
        change = steps[blocks, rows]
        codes[blocks, rows, column] += change
        moved = change * self.lattice.scale[blocks, rows, column]
        pull[blocks, rows] += moved[:, None] * self.metric[blocks, column]


class _Ways:
    """The best few choices of codes for the columns so far, [blocks, rows, ways, columns], best first."""

    def __init__(self, wanted: Doubles, neighbours: Sequence[float], most: int) -> None:
        self._wanted, self._neighbours, self._most = wanted, np.array(neighbours), most
        self.codes = np.zeros((*wanted.shape[:2], 1, wanted.shape[2]))
        self._errors, self._losses = np.zeros_like(self.codes), np.zeros((*wanted.shape[:2], 1))

    def go(self, column: int, done: Ids, row: Floats, lattice: Lattice) -> None:
        """Every way goes on with codes near where its errors want this column."""
        across = self._errors[..., done] @ row[:, None, 1:, None]
        centre = self._wanted[:, :, None, column] + across[..., 0] / row[:, None, None, 0]
        wide = Lattice(
            lattice.scale[..., None, None], lattice.zero[..., None, None], lattice.low, lattice.high
        )
        near = wide.nearest(centre[..., None])
        codes = np.clip(near + self._neighbours, lattice.low, lattice.high)
        left = centre[..., None] - wide.values(codes)
        losses = self._losses[..., None] + (row[:, None, None, None, 0] * left) ** 2
        losses = np.where((codes == near) | (codes == near + self._neighbours), losses, np.inf)
        shape = losses.shape[:2]
        order = np.argsort(losses.reshape(*shape, -1), axis=2, kind="stable")[:, :, : self._most]
        before = order // len(self._neighbours)

        def kept(array: Doubles) -> Doubles:
            return np.take_along_axis(array.reshape(*shape, -1), order, axis=2)

        self.codes, self._errors = (
            np.take_along_axis(each, before[..., None], axis=2) for each in (self.codes, self._errors)
        )
        self.codes[..., column] = kept(codes)
        self._errors[..., column] = self._wanted[:, :, None, column] - kept(wide.values(codes))
        self._losses = kept(losses)
