"""Weights on a grid where rows are fewer than columns: the search of `grid` on the side of the rows.

With H = X'X + l I the factor that rounds a column where the errors so far want it needs no matrix over
columns. Of H without the columns < p, l I + Z' M Z is left, M = (I + sum of x x' / l)^-1 over those columns.
So column p is wanted at w_p + g_p' r with g_p = M x_p / (l + x_p' M x_p), and r the sum of e_q x_q over the
columns rounded before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphprune.ir.arrays import Doubles, Ids
from graphprune.prune.repair.grid import LEAST, ROUNDING, SWEEPS, WORK, Lattice, no_worse
from graphprune.prune.repair.samples import Samples


def settle_rows(wanted: Doubles, lattice: Lattice, seen: Samples, biased: bool, damping: float) -> Doubles:
    """Codes for a weight, as `settle` finds them, of all columns together.

    Args:
        wanted: the real-valued refit, [blocks, rows, columns].
        lattice: of the same shape.
        seen: what it was fitted to.
        biased: whether a bias takes up the means.
        damping: of the refit.
    """
    found = np.empty_like(wanted)
    for block in range(len(wanted)):
        search = _Search.of(wanted[block], lattice, block, seen.about(block, biased), damping)
        found[block] = search.descended(search.planes()).T
    return no_worse(found, lattice, lattice.nearest(wanted), seen, biased)


@dataclass(frozen=True, eq=False)
class _Search:
    """One block, column by column.

    Attributes:
        wanted, scale, zero, inverse: of each element, and 1 / scale or zero, [columns, rows].
        low, high: least and largest code.
        x: inputs, [columns, samples].
        level: the ridge.
        curve: |x|^2 + level of each column.
    """

    wanted: Doubles
    scale: Doubles
    zero: Doubles
    inverse: Doubles
    low: float
    high: float
    x: Doubles
    level: float
    curve: Doubles

    @staticmethod
    def of(wanted: Doubles, lattice: Lattice, block: int, x: Doubles, damping: float) -> _Search:
        """Of a block, [rows, columns], and its inputs [samples, columns]."""
        scale, zero, across = (
            np.ascontiguousarray(a.T) for a in (lattice.scale[block], lattice.zero[block], x)
        )
        energy = np.einsum("cn,cn->c", across, across)
        mean = float(energy.mean()) if len(energy) else 0.0
        level = max(damping, LEAST) * mean if mean > 0 else 1.0
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        wanted = np.ascontiguousarray(wanted.T)
        return _Search(wanted, scale, zero, inverse, lattice.low, lattice.high, across, level, energy + level)

    def planes(self) -> Doubles:
        """Rounded column by column, the heaviest first, each where the errors so far want it."""
        order = np.argsort(self.curve, kind="stable")
        pulls = self._pulls(order)
        codes = np.empty_like(self.wanted)
        left = np.zeros((self.wanted.shape[1], self.x.shape[1]))
        for column in order[::-1].tolist():
            wanted, scale, zero = self.wanted[column], self.scale[column], self.zero[column]
            centre = wanted + left @ pulls[column]
            code = np.rint(centre * self.inverse[column]) + zero
            np.minimum(np.maximum(code, self.low, out=code), self.high, out=codes[column])
            left += (wanted - (codes[column] - zero) * scale)[:, None] * self.x[column]
        return codes

    def _pulls(self, order: Ids) -> Doubles:
        """The g of each column, [columns, samples]."""
        found = np.empty_like(self.x)
        inverse = np.eye(self.x.shape[1])
        for column in order.tolist():
            x = self.x[column]
            moved = inverse @ x
            found[column] = moved / (self.level + moved @ x)
            inverse -= moved[:, None] * found[column]
        return found

    def descended(self, codes: Doubles) -> Doubles:
        """Single codes move as long as the loss falls; each sweep looks at columns where it may."""
        errors = (codes - self.zero) * self.scale - self.wanted
        left = errors.T @ self.x
        for _ in range(max(1, min(SWEEPS, int(WORK / max(1.0, errors.size * self.x.shape[1]))))):
            pull = self.x @ left.T + self.level * errors
            steps = self._steps(codes, pull, slice(None))
            columns = np.flatnonzero((steps != 0).any(axis=1)).tolist()
            for column in columns:
                pull = left @ self.x[column] + self.level * errors[column]
                moved = self._steps(codes, pull, column)
                codes[column] += moved
                change = moved * self.scale[column]
                errors[column] += change
                left += change[:, None] * self.x[column]
            if not columns:
                break
        return codes

    def _steps(self, codes: Doubles, pull: Doubles, at: slice | int) -> Doubles:
        """Whole steps within bounds to where the loss is least; none where nothing is gained."""
        scale, curve = self.scale[at], self.curve[at, None] if isinstance(at, slice) else self.curve[at]
        steps = codes[at] + np.rint(-pull * self.inverse[at] / curve)
        steps = np.minimum(np.maximum(steps, self.low), self.high) - codes[at]
        moved = steps * scale
        return np.asarray(np.where(moved * (2 * pull + moved * curve) < -ROUNDING * curve, steps, 0.0))
