"""How much second moments of few rows are damped: more columns than rows say can be made up for by chance."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from graphprune.ir.arrays import Bools, Doubles

LEAST = 0.01
"""Share of the mean diagonal that is added however many rows there are."""
MOST = 0.5
"""Share of the identity in the mix beyond which nothing would be left of the data."""
STILL = 1e-11
"""Share of its second moment below which a column's variance is rounding: it is constant."""
PIECE = 512
"""Rows and columns of a triangle that are copied together."""
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


def inverted(second: Doubles, share: float, start: int = 0) -> Doubles:
    """(H + share * mean diagonal)^-1 from a row and column on, in place of H, which is used up.

    Columns that are always zero count as independent. H was summed in single precision: where it is not
    positive even so, the damping grows until it is.
    """
    diagonal = second.diagonal().copy()
    mean = float(diagonal.mean())
    level = share * mean
    places = np.diag_indices_from(second)
    while True:
        second[places] = diagonal + np.where(diagonal > 0, level, 1.0)
        if _invert(second, start):
            return second[start:, start:]
        _mirror(second.T)
        level = HARDER * max(level, float(np.finfo(np.float32).eps) * mean)


def inverse(matrix: Doubles) -> Doubles:
    """That of a symmetric positive matrix, in its place.

    Raises:
        LinAlgError: it is not positive.
    """
    if not _invert(matrix):
        raise linalg.LinAlgError("not positive")
    return matrix


def _invert(matrix: Doubles, start: int = 0) -> bool:
    """Whether it could be inverted in its place; if not, its lower triangle is lost, and its diagonal.

    The factor of the last columns is that of what is left of them once the others are eliminated.
    """
    factor, failed = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    if failed:
        return False
    found, _ = lapack.dpotri(factor[start:, start:], lower=0, overwrite_c=1)
    last = matrix[start:, start:]
    last[...] = found.T
    _mirror(last)
    return True


def _mirror(matrix: Doubles) -> None:
    """The lower triangle becomes the upper one, too."""
    for start in range(0, len(matrix), PIECE):
        end = min(start + PIECE, len(matrix))
        block = matrix[start:end, start:end]
        matrix[start:end, end:] = matrix[end:, start:end].T
        block[...] = np.tril(block) + np.tril(block, -1).T
