"""Metrics for common shapes of task: a number per sample, of which higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from graphprune.errors import DataError
from graphprune.ir.arrays import Array, Doubles
from graphprune.runtime.gaps import next_tokens, real_tokens, surprise
from graphprune.runtime.session import Feeds

Outputs = Mapping[str, np.ndarray]
Score = Callable[[Sequence[Outputs], Sequence[Feeds], "Array | None"], Doubles]
"""What a model gives for each sample, its inputs, and labels; a number per sample."""
OVERLAP, SURE = 0.5, 0.5
"""Intersection over union from which two boxes are one, and the score from which a box is there."""


def labelled(labels: Array | None) -> Array:
    """Labels that there have to be.

    Raises:
        DataError: there are none.
    """
    if labels is None:
        raise DataError("this metric needs labels, one per sample", "give some: --labels FILE.npy")
    return labels


def top1(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """Whether the first class is the label."""
    wanted = labelled(labels)
    found = [_first(each, lambda array: array.size > 1).reshape(-1).argmax() for each in outputs]
    return np.asarray(found == np.asarray(wanted).reshape(-1), np.float64)


def auc(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """Area under the ROC curve, as the part of each sample in it.

    The mean of the numbers is the area, and their variance that of DeLong et al., 1988.
    """
    rows = [_first(each, lambda array: array.size > 0).reshape(-1).astype(np.float64) for each in outputs]
    scores = np.array([row[-1] - row[0] if row.size == 2 else row[-1] for row in rows])
    positive = np.asarray(labelled(labels)).reshape(-1).astype(bool)
    if positive.all() or not positive.any():
        raise DataError("the area under a curve needs samples of both classes", "give labels 0 and 1")
    above = np.sign(scores[positive][:, None] - scores[~positive][None, :]) / 2 + 0.5
    area = above.mean()
    parts = np.empty(len(scores))
    parts[positive] = area + len(scores) / positive.sum() * (above.mean(axis=1) - area)
    parts[~positive] = area + len(scores) / (~positive).sum() * (above.mean(axis=0) - area)
    return parts


def exact(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """Whether the first output of texts or whole numbers is the label, element by element."""
    wanted = labelled(labels)
    found = [_first(each, lambda array: array.dtype.kind in "iubOSU") for each in outputs]
    pairs = zip(found, wanted, strict=True)
    return np.array([_texts(one) == _texts(other) for one, other in pairs], np.float64)


def perplexity(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """Minus the mean negative log-likelihood of each sample's own next tokens: a hundredth is a percent."""
    return np.array([_likelihood(*pair) for pair in zip(outputs, feeds, strict=True)])


def _likelihood(outputs: Outputs, feeds: Feeds) -> float:
    logits = _first(outputs, lambda array: array.ndim == 3 and array.dtype.kind == "f")
    fits = (array for array in feeds.values() if array.dtype.kind in "iu" and array.shape == logits.shape[:2])
    ids = next(fits, None)
    if ids is None:
        raise DataError("perplexity needs token ids among the inputs, as many as there are logits")
    targets, use = next_tokens(ids, real_tokens(feeds))
    rows = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
    return -float(surprise(rows[use], targets, "logits").mean())


def retrieval(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """Whether the nearest other sample, by cosine, has the same label."""
    wanted = np.asarray(labelled(labels)).reshape(-1)
    rows = [_first(each, lambda array: array.dtype.kind == "f").reshape(-1) for each in outputs]
    vectors = np.stack(rows).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    return np.asarray(wanted[near.argmax(axis=1)] == wanted, np.float64)


def boxes(outputs: Sequence[Outputs], feeds: Sequence[Feeds], labels: Array | None) -> Doubles:
    """F1 of the boxes of each picture; labels are [samples, boxes, 4], corners, filled up with NaN."""
    pairs = zip(outputs, labelled(labels), strict=True)
    return np.array([_f1(_boxes(each), np.asarray(wanted, np.float64)) for each, wanted in pairs])


def _boxes(outputs: Outputs) -> Doubles:
    """Corners of the boxes that are there: of an output [..., 4] with scores beside it, or of [..., 5]."""
    corners = _first(outputs, lambda array: array.ndim > 1 and array.shape[-1] >= 4)
    rows = corners.reshape(-1, corners.shape[-1]).astype(np.float64)
    if rows.shape[1] > 4:
        return rows[rows[:, 4] >= SURE, :4]
    beside = (array for array in outputs.values() if array is not corners and array.dtype.kind == "f")
    scores = next((array for array in beside if array.size % max(1, len(rows)) == 0), None)
    if scores is None:
        return rows
    sure = scores.reshape(len(rows), -1).max(axis=1, initial=0.0) >= SURE
    return np.asarray(rows[sure])


def _f1(found: Doubles, wanted: Doubles) -> float:
    wanted = wanted[~np.isnan(wanted).any(axis=-1)][:, :4]
    if not len(found) and not len(wanted):
        return 1.0
    overlaps, hits = _overlaps(found, wanted), 0
    while overlaps.size and overlaps.max() >= OVERLAP:
        one, other = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        overlaps[one, :] = overlaps[:, other] = 0.0
        hits += 1
    return 2 * hits / (len(found) + len(wanted))


def _overlaps(found: Doubles, wanted: Doubles) -> Doubles:
    """Intersection over union of every pair."""
    low = np.maximum(found[:, None, :2], wanted[None, :, :2])
    high = np.minimum(found[:, None, 2:], wanted[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=-1) for each in (found, wanted)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-12))


def _first(outputs: Outputs, fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    for array in outputs.values():
        if fits(array):
            return array
    raise DataError(
        "no output of the model fits this metric", "write one of your own: --metric module:function"
    )


def _texts(array: object) -> list[str]:
    """Elements as text; what a text is filled up with does not count."""
    found = np.asarray(array).reshape(-1).tolist()
    return [each.decode() if isinstance(each, bytes) else str(each) for each in found]


SCORES: Mapping[str, Score] = {
    "auc": auc,
    "boxes": boxes,
    "exact": exact,
    "perplexity": perplexity,
    "retrieval": retrieval,
    "top1": top1,
}
