"""Random layers with correlated inputs, and the losses of masked weights on them."""

from __future__ import annotations

import numpy as np


def layer(seed: int, rows: int, columns: int, samples: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A weight and the Gram matrix of correlated samples of its input."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = rng.standard_normal((samples, columns)) @ mixing * np.exp(0.5 * rng.standard_normal(columns))
    return rng.standard_normal((rows, columns)).astype(np.float32), inputs.T @ inputs


def least_squares(weight: np.ndarray, gram: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The oracle of the refit: every row solved on its own support."""
    result = np.zeros(weight.shape)
    for row, kept in enumerate(keep):
        if kept.any():
            right = weight[row].astype(np.float64) @ gram[:, kept]
            result[row, kept] = np.linalg.solve(gram[np.ix_(kept, kept)], right)
    return result
