"""What a single weight is worth: an elementwise field over a matrix `[rows, columns]`; higher stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from graphprune.ir.arrays import Singles
from graphprune.prune.masks.patterns import Scores

Vector = npt.NDArray[np.float64]

_EPSILON = 1e-5


def magnitude(weight: Singles) -> Scores:
    """|W|."""
    return np.abs(weight)


def wanda(weight: Singles, squares: Vector) -> Scores:
    """|W_ij| ||X_j||: Wanda (arXiv 2306.11695), eq. 1. `squares` is the sum of x_j^2 up to a constant."""
    return np.abs(weight) * _norm(squares)


def nowag(weight: Singles, squares: Vector) -> Scores:
    """NoWag-P: W'_ij^2 ||X_j||^2, where W' is W with columns and then rows divided by their norms."""
    normal = np.abs(weight)
    normal /= np.sqrt(np.einsum("ij,ij->j", normal, normal)) + np.float32(_EPSILON)
    normal /= (np.sqrt(np.einsum("ij,ij->i", normal, normal)) + np.float32(_EPSILON))[:, None]
    normal *= _norm(squares)
    return np.square(normal, out=normal)


def _norm(squares: Vector) -> Singles:
    """Column norms over their largest: the ranking is the same, and float32 holds it."""
    peak = float(np.max(squares, initial=0.0))
    return np.sqrt(squares / peak if peak > 0 else squares).astype(np.float32)
