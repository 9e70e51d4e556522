"""The best weights under a given mask: masked conjugate gradients, all rows at once."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Doubles, Floats
from graphprune.prune.masks.patterns import Keep
from graphprune.prune.masks.sweep import damped

ITERATIONS = 20


def refit(
    weight: Floats,
    gram: Floats,
    keep: Keep,
    *,
    start: Floats | None = None,
    damping: float = 0.01,
    iterations: int = ITERATIONS,
    tolerance: float = 1e-4,
) -> Floats:
    """Per row, minimise (v - w) H (v - w)^T over v that are zero where `keep` is not.

    Conjugate gradients on the support, preconditioned by the diagonal (columns of a language model differ in
    scale by orders of magnitude). The loss never rises, whatever the start; one product with H an iteration.

    Args:
        weight: dense w, `[rows, columns]`.
        gram: `[columns, columns]`, sum of x x^T, any scale.
        keep: which weights stay.
        start: a feasible v to start from; the masked weight when not given.
        damping: share of the mean diagonal added to H.
        iterations: at most so many.
        tolerance: rows stop when their gradient has shrunk by this.
    """
    kind = np.result_type(weight.dtype, np.float32)
    full = damped(gram, damping)
    scale = 1 / np.sqrt(np.diagonal(full))
    hessian = (full * scale * scale[:, None]).astype(kind)
    root = (1 / scale).astype(kind)
    value = np.where(keep, weight if start is None else start, 0).astype(kind) * root
    residual = _product(weight.astype(kind) * root - value, hessian, keep)
    direction, square = residual.copy(), _dots(residual, residual)
    goal = square * tolerance**2
    for _ in range(iterations):
        if not np.any(square > goal):
            break
        ahead = _product(direction, hessian, keep)
        step = _ratio(square, _dots(direction, ahead)).astype(kind)
        value += step * direction
        ahead *= step
        residual -= ahead
        fresh = _dots(residual, residual)
        direction *= _ratio(fresh, square).astype(kind)
        direction += residual
        square = fresh
    result: Floats = value * scale.astype(kind)
    return result


def loss(weight: Floats, other: Floats, gram: Floats) -> Doubles:
    """(v - w) H (v - w)^T of every row, in float64."""
    gap = np.asarray(other, np.float64) - weight
    result: Doubles = np.einsum("ij,ij->i", gap @ gram, gap)
    return result


def _product(rows: Floats, hessian: Floats, keep: Keep) -> Floats:
    product: Floats = rows @ hessian
    product *= keep
    return product


def _dots(a: Floats, b: Floats) -> Doubles:
    result: Doubles = np.einsum("ij,ij->i", a, b)[:, None].astype(np.float64)
    return result


def _ratio(above: Doubles, below: Doubles) -> Floats:
    """Zero for rows that are done, so that the others may go on."""
    result: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
