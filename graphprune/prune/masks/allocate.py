"""How much of every layer goes: the same share, by outliers (OWL), or the least of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from graphprune.ir.arrays import Doubles
from graphprune.prune.masks.patterns import Keep, Scores, keep_all_but

_DIGIT = 16
_BINS = 1 << _DIGIT


def outlier_share(scores: Iterable[Scores], times: float = 5.0) -> float:
    """Percent of the scores of a block above `times` their mean: D of OWL (arXiv 2310.05175), eq. 2."""
    arrays = list(scores)
    size = sum(array.size for array in arrays)
    mean = sum(float(array.sum(dtype=np.float64)) for array in arrays) / max(1, size)
    above = sum(int(np.count_nonzero(array > times * mean)) for array in arrays)
    return 100.0 * above / max(1, size)


def owl(outliers: Sequence[float], sizes: Sequence[int], ratio: float, spread: float = 0.08) -> Doubles:
    """Doubles per block: less is removed where more outliers are, and `ratio` of all the weights together.

    The outlier shares are scaled to [0, 2 spread]; the mean is weighted by size, and what clipping to [0, 1]
    takes is given to the other blocks.
    """
    shares, weights = np.asarray(outliers, np.float64), np.asarray(sizes, np.float64)
    low, high = shares.min(), shares.max()
    if high <= low:
        return np.full(len(shares), ratio)
    scaled = (shares - low) / (high - low) * 2 * spread
    wanted = ratio + np.average(scaled, weights=weights) - scaled
    return _clipped(wanted, weights, ratio)


def _clipped(wanted: Doubles, weights: Doubles, ratio: float) -> Doubles:
    """All shifted by the same, then clipped, so that the weighted mean is `ratio`."""

    def gap(shift: float) -> float:
        return float(np.average(np.clip(wanted + shift, 0.0, 1.0), weights=weights)) - ratio

    low, high = -float(wanted.max()), 1 - float(wanted.min())
    shift = 0.0 if gap(0.0) == 0 else float(brentq(gap, low, high, xtol=1e-14))
    return np.clip(wanted + shift, 0.0, 1.0)


def keep_global(
    layers: Sequence[Callable[[], Scores]], removed: int, reserved: Sequence[int]
) -> tuple[Keep, ...]:
    """Exactly `removed` of all the layers' weights go, and of each layer its `reserved` best stay.

    Reserve the best of every layer, rank the rest together (global magnitude pruning with a minimum
    threshold, arXiv 2209.14624, without its loop). The threshold is found digit by digit from histograms, so
    the scores are made once per digit and layer and never held together.

    Args:
        layers: per layer, makes its non-negative scores.
        removed: how many go; at most what is not reserved.
        reserved: how many stay in any case, per layer.
    """
    kind = np.result_type(*{layer().dtype for layer in layers}, np.float32)
    floors = [_reserve(layer(), count) for layer, count in zip(layers, reserved, strict=True)]

    def keys(at: int) -> npt.NDArray[np.unsignedinteger]:
        return _sortable(layers[at]().astype(kind).reshape(-1)[floors[at]])

    threshold, ties = _threshold(keys, len(layers), removed, 8 * kind.itemsize)
    result = []
    for at, layer in enumerate(layers):
        own = keys(at)
        gone = own < threshold
        equal = np.flatnonzero(own == threshold)[:ties]
        gone[equal] = True
        ties -= len(equal)
        keep = np.ones(floors[at].size, dtype=bool)
        keep[np.flatnonzero(floors[at])[gone]] = False
        result.append(keep.reshape(layer().shape))
    return tuple(result)


def _reserve(scores: Scores, count: int) -> Keep:
    """False for the `count` best of a layer, which do not compete; of equal ones the last are best."""
    return ~keep_all_but(scores, scores.size - count).reshape(-1)


def _sortable(values: Scores) -> npt.NDArray[np.unsignedinteger]:
    """Bits of non-negative floats, which order as the numbers do; -0 counts as 0."""
    return (values + 0.0).view(np.uint32 if values.dtype == np.float32 else np.uint64)


def _threshold(
    keys: Callable[[int], npt.NDArray[np.unsignedinteger]], layers: int, removed: int, bits: int
) -> tuple[int, int]:
    """The smallest key that stays, in part, and how many that equal it go."""
    prefix = 0
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        counts = np.zeros(_BINS, dtype=np.int64)
        for at in range(layers):
            own = keys(at)
            if shift + _DIGIT < bits:
                own = own[own >> (shift + _DIGIT) == prefix]
            digits = (own >> shift) & (_BINS - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=_BINS)
        below = np.cumsum(counts)
        digit = min(int(np.searchsorted(below, removed, side="right")), _BINS - 1)
        removed -= int(below[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT | digit
    return prefix, removed
