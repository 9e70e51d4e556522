"""How much second moments of few rows are damped: more columns than rows say can be made up for by chance."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Bools, Doubles

LEAST = 0.01
"""Share of the mean diagonal that is added however many rows there are."""
MOST = 0.5
"""Share of the identity in the mix beyond which nothing would be left of the data."""
STILL = 1e-11
"""Share of its second moment below which a column's variance is rounding: it is constant."""
HARDER = 10.0
"""Factor of a ridge that did not make a matrix positive."""


def damping(rows: float, columns: int, trace: float, squares: float) -> float:
    """The share of the mean diagonal to add to second moments S about the mean, before they are inverted.

    The mix (1 - r) S + r tr(S)/p I that is nearest to the truth on average has, for Gaussian rows,
    r = ((1 - 2/p) tr S^2 + (tr S)^2) / ((n + 1 - 2/p) (tr S^2 - (tr S)^2 / p)): oracle approximating
    shrinkage (Chen, Wiesel, Eldar and Hero, 2010).

    Args:
        rows: n.
        columns: p, those that vary.
        trace: tr S.
        squares: tr S^2.
    """
    if columns < 2:
        return LEAST  # nothing could make up for it
    some = 1 - 2 / columns
    spread = (rows + some) * (squares - trace**2 / columns)
    wanted = some * squares + trace**2
    share = min(wanted / spread, MOST) if wanted < MOST * spread else MOST
    return max(LEAST, share / (1 - share))


def damping_of(covariance: Doubles, rows: float, given: float | None) -> float:
    """What was asked for, or else what so few rows need."""
    if given is not None:
        return given
    columns, trace = int(np.count_nonzero(covariance.diagonal())), float(np.trace(covariance))
    return damping(rows, columns, trace, float(np.vdot(covariance, covariance)))


def varying(variance: Doubles, mean: Doubles) -> Bools:
    """Which columns vary, beyond what single precision makes of a constant."""
    return np.asarray(variance > STILL * (variance + mean**2))


def inverted(second: Doubles, share: float) -> Doubles:
    """(H + share * mean diagonal)^-1; columns that are always zero count as independent.

    H was summed in single precision: where it is not positive even so, the damping grows until it is.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    diagonal = np.diagonal(second)
    mean = float(diagonal.mean())
    level = share * mean
    while True:
        damped = np.array(second, order="F")
        damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, level, 1.0)
        factor, failed = dpotrf(damped, lower=1, overwrite_a=1)
        if not failed:
            break
        level = HARDER * max(level, float(np.finfo(np.float32).eps) * mean)
    half, _ = dpotri(factor, lower=1, overwrite_c=1)
    lower = np.tril(half, -1)
    lower += lower.T
    lower[np.diag_indices_from(lower)] = np.diagonal(half)
    return np.asarray(lower)
