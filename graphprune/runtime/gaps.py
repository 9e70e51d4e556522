"""How far two arrays of one kind of output are apart: what a drop sums over samples.

`dense` is always what the dense model gives, `small` what the other does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphprune.axes.outputs import Scale
from graphprune.ir.arrays import Array, Bools, Doubles, Ids

HALF = 0.5


def distribution(rows: Doubles, scale: Scale) -> Doubles:
    """Probabilities of each row."""
    if scale == "probabilities":
        return rows
    if scale == "log":
        return np.asarray(np.exp(rows))
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def class_gap(dense: Doubles, small: Doubles) -> tuple[Doubles, Ids, Bools]:
    """Of each row: probability lost by the small model's choice, the dense model's class, whether they agree.

    A row that is no numbers chooses nothing, and loses all.
    """
    rows, best = np.arange(len(dense)), dense.argmax(axis=-1)
    usable = ~np.isnan(small).any(axis=-1)
    chosen = np.where(usable, np.nan_to_num(small).argmax(axis=-1), best)
    gap = dense[rows, best] - np.where(usable, dense[rows, chosen], 0.0)
    return gap, best, usable & (chosen == best)


def surprise(rows: Doubles, targets: Ids, scale: Scale) -> Doubles:
    """Negative log-likelihood of the next token, of each row."""
    told = rows[np.arange(len(rows)), targets]
    if scale == "log":
        return np.asarray(-told)
    top = rows.max(axis=-1)
    return np.asarray(np.log(np.exp(rows - top[:, None]).sum(axis=-1)) + top - told)


def score_gap(dense: Doubles, small: Doubles) -> tuple[float, float]:
    """|p - q| and p + q, summed over positions that either calls positive."""
    positive = (dense > HALF) | (small > HALF)
    one, two = dense[positive], small[positive]
    return float(np.abs(one - two).sum()), float((one + two).sum())


def exact_gap(dense: Array, small: Array) -> tuple[float, float]:
    """How many elements differ, and how many there are; what only one model returns differs."""
    one, two = dense.ravel(), small.ravel()
    size, both = max(one.size, two.size), min(one.size, two.size)
    if dense.shape == small.shape or dense.ndim < 2 or dense.shape[1:] == small.shape[1:]:
        return float(size - np.count_nonzero(one[:both] == two[:both])), float(size)
    return float(size), float(size)


def matched(dense: Array, small: Array) -> tuple[Array, Array]:
    """Two arrays of one shape: what one of them does not have (a detection, say) reads as zero."""
    if dense.shape == small.shape:
        return dense, small
    if dense.ndim != small.ndim:
        dense, small = dense.ravel(), small.ravel()
    shape = tuple(map(max, dense.shape, small.shape))
    return _filled(dense, shape), _filled(small, shape)


def _filled(array: Array, shape: tuple[int, ...]) -> Array:
    found = np.zeros(shape, array.dtype)
    found[tuple(map(slice, array.shape))] = array
    return found


def kept(array: Array, real: Bools | None) -> Array:
    """The positions [1, positions, ...] of an output that are no padding."""
    if real is None or array.ndim < 2 or array.shape[:2] != real.shape:
        return array
    return array[real][None]


def rows_of(array: Array, axis: int) -> Array:
    """Classes as the last of two axes."""
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def centred(rows: Doubles) -> Doubles:
    """Logits mean the same with anything added to all of them."""
    finite = np.isfinite(rows)
    if finite.all():
        return np.asarray(rows - rows.mean(axis=-1, keepdims=True))
    counts = np.maximum(finite.sum(axis=-1, keepdims=True), 1)
    return np.asarray(rows - np.where(finite, rows, 0.0).sum(axis=-1, keepdims=True) / counts)


def next_tokens(ids: Array | None, real: Bools | None) -> tuple[Ids, Bools]:
    """The next token of every position that has one, and which rows those are."""
    assert ids is not None
    after = np.zeros(ids.shape, np.int64)
    after[:, :-1] = ids[:, 1:]
    use = np.ones(ids.shape, bool) if real is None else np.array(real)
    use[:, :-1] &= use[:, 1:]
    use[:, -1] = False
    return after[use], use.ravel()


def real_tokens(feed: Mapping[str, Array]) -> Bools | None:
    """Which tokens are not padding, by the input that says so."""
    for name in sorted(feed):
        array = feed[name]
        if "mask" in name.lower() and array.ndim == 2 and array.dtype.kind in "iub" and not np.all(array):
            return np.asarray(array != 0)
    return None
