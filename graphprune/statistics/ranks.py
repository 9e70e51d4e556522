"""Ranks of feature maps (HRank), on the host."""

from __future__ import annotations

import numpy as np

from graphprune.ir.arrays import Array
from graphprune.statistics.measures import Rank

TOLERANCE = 1e-5
"""Relative to a map's largest singular value."""
SAMPLES = 32
"""Maps per channel that are looked at over all batches; mean ranks settle long before."""


def rank(array: Array, axis: int, share: float = 1.0) -> Rank:
    """Ranks of the maps of the first samples of a batch that holds this share of the data.

    Values with two axes of positions are maps. Others have one singular value per sample and channel, the
    norm over the positions, of which the entropy over the samples is scored.
    """
    array = array[: max(1, int(np.ceil(SAMPLES * share)))]
    maps = np.moveaxis(array.astype(np.float64), axis, 1) if axis else array.astype(np.float64)[None]
    maps = maps if maps.ndim == 4 else maps.reshape(*maps.shape[:2], -1, 1)
    if not np.isfinite(maps).all():
        unknown = np.full(maps.shape[1], np.nan)
        return Rank(float(len(maps)), unknown, unknown, unknown)
    values = np.linalg.svd(maps, compute_uv=False)
    largest = values[..., 0]
    ranks = (values > TOLERANCE * largest[..., None]).sum(axis=-1)
    if maps.shape[2:] == (1, 1) or maps.shape[3] == 1:
        ranks = np.zeros_like(ranks)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(largest > 0, largest * np.log(largest), 0.0)
    return Rank(float(len(maps)), ranks.sum(0).astype(np.float64), largest.sum(0), logs.sum(0))
