"""A fit as the grid of a quantised weight has it, by whichever search is the smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphprune.ir.arrays import Bools
from graphprune.prune.repair.fit import Fit
from graphprune.prune.repair.grid import NARROW, Lattice, settle
from graphprune.prune.repair.grid_rows import settle_rows
from graphprune.prune.repair.samples import Samples, pooled
from graphprune.prune.repair.solve import Seen


def on_grid(found: Fit, lattice: Lattice, folds: Sequence[Seen], biased: bool) -> Fit:
    """The same weight as the grid has it, and the bias that goes with that."""
    total = pooled(folds)
    wanted = np.asarray(found.weight, np.float64)
    if isinstance(total, Samples) and wanted.shape[2] > max(NARROW, total.count):
        codes = settle_rows(wanted, lattice, total, biased, found.damping)
    else:
        codes = settle(wanted, lattice, total, biased, found.damping)
    weight = lattice.values(codes)
    return replace(found, weight=weight, bias=total.offset(weight) if biased else found.bias)


def missed(found: Fit, folds: Sequence[Seen], live: Bools) -> float:
    """Squared error over the rows that stay."""
    return float(pooled(folds).loss(found.weight, found.bias)[live].sum())
