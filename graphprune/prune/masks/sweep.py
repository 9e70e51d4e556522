"""SparseGPT's sweep (arXiv 2301.00774): choose a mask column by column and let the rest make up for it."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from graphprune.ir.arrays import Doubles, Floats, Singles
from graphprune.prune.masks.patterns import Keep, Pattern, keep_all_but, keep_groups, removed_count

BLOCK = 128
_INNER = 32
HARDER = 10.0
"""Factor of a damping that did not make a matrix positive."""


def damped(gram: Floats, damping: float) -> Doubles:
    """H plus `damping` times its mean diagonal, over a power of four that is about that mean.

    A column that is never fed gets a diagonal of 1.
    """
    result = np.array(gram, dtype=np.float64)
    diagonal = np.einsum("ii->i", result)
    result *= 4.0 ** -(np.frexp(diagonal.mean())[1] // 2)
    added = damping * float(diagonal.mean())
    diagonal[diagonal == 0] = 1.0
    diagonal += added
    return result


def factor(gram: Floats, damping: float) -> Doubles:
    """Upper Cholesky factor U of the inverse of the damped Floats matrix: U^T U = H^-1.

    H reversed in both axes is L L^T, so the inverse of L, reversed back, is U: one factorisation, no inverse
    of H that loses half the digits. Where H has fewer samples than columns and is not positive, the damping
    grows until it is.
    """
    while True:
        try:
            lower = scipy.linalg.cholesky(damped(gram, damping)[::-1, ::-1], lower=True, check_finite=False)
            break
        except scipy.linalg.LinAlgError:
            damping = max(damping, float(np.finfo(np.float32).eps)) * HARDER
    inverse, info = scipy.linalg.lapack.dtrtri(lower, lower=1, overwrite_c=1)
    assert info == 0, "a Cholesky factor has no zero on its diagonal"
    result: Doubles = np.ascontiguousarray(inverse[::-1, ::-1])
    return result


def sweep(
    weight: Singles,
    gram: Floats,
    ratio: float,
    pattern: Pattern,
    damping: float = 0.01,
    block: int = BLOCK,
    felt: Singles | None = None,
) -> tuple[Singles, Keep]:
    """Weights and mask after the sweep.

    Unstructured, every block of columns loses `ratio` of its entries over all rows jointly; under n:m every
    group is decided when the sweep reaches it. Entries that are zero already go first.

    Args:
        weight: `[rows, columns]`; stays as it is.
        gram: `[columns, columns]`, sum of x x^T, any scale.
        ratio: share to remove; unused under n:m.
        pattern: unstructured or n:m.
        damping: share of the mean diagonal added to H.
        block: columns decided together.
        felt: filled with W^2 / U_jj^2 `[rows, columns]`, as they are when the sweep reaches a block.
    """
    upper = factor(gram, damping).astype(np.float32)
    # Columns as rows, so that a column of W is contiguous.
    work = np.array(weight.T, dtype=np.float32, order="C")
    dead = np.einsum("ii->i", np.asarray(gram)) == 0
    work[dead] = 0
    zero = work == 0
    keep = np.ones(work.shape, dtype=bool)
    block = block - block % pattern.m
    for start in range(0, len(work), block):
        stop = min(start + block, len(work))
        part = _Block(work[start:stop], zero[start:stop], upper[start:stop, start:stop])
        if felt is not None:
            felt[:, start:stop] = np.maximum(part.scores(0, stop - start), 0).T
        # What is due up to here less what went before: roundings do not add up.
        count = removed_count(work[:stop].size, ratio) - removed_count(work[:start].size, ratio)
        keep[start:stop] = part.run(count, pattern)
        work[stop:] -= upper[start:stop, stop:].T @ part.errors
    work[~keep] = 0
    return np.ascontiguousarray(work.T), np.ascontiguousarray(keep.T)


class _Block:
    """One block of the sweep: its columns as rows, changed in place, and the errors it leaves behind."""

    def __init__(self, work: Singles, zero: Keep, upper: Singles) -> None:
        self.work = work
        self.zero = zero
        self.upper = upper
        self.errors = np.zeros_like(work)

    def run(self, removed: int, pattern: Pattern) -> Keep:
        """The mask of the block; under n:m `removed` is not looked at."""
        count = len(self.work)
        if not pattern.structured:
            keep = keep_all_but(self.scores(0, count), removed) & ~self.zero
        else:
            keep = np.ones(self.work.shape, dtype=bool)
        inner = max(pattern.m, _INNER - _INNER % pattern.m)
        for start in range(0, count, inner):
            stop = min(start + inner, count)
            for column in range(start, stop):
                if pattern.structured and column % pattern.m == 0:
                    group = slice(column, column + pattern.m)
                    keep[group] = keep_groups(self.scores(column, group.stop).T, pattern).T
                    keep[group] &= ~self.zero[group]
                self._remove(column, stop, keep[column])
            self.work[stop:] -= self.upper[start:stop, stop:].T @ self.errors[start:stop]
        return keep

    def scores(self, start: int, stop: int) -> Singles:
        """W^2 / U_jj^2, and below everything what is zero already."""
        scores: Singles = np.square(self.work[start:stop] / np.diagonal(self.upper)[start:stop, None])
        scores[self.zero[start:stop]] = -1
        return scores

    def _remove(self, column: int, stop: int, keep: Keep) -> None:
        error = np.where(keep, np.float32(0), self.work[column]) / self.upper[column, column]
        self.errors[column] = error
        self.work[column + 1 : stop] -= self.upper[column, column + 1 : stop, None] * error
