"""What a model makes of each sample of a pool: the input of its last layer, and scores from its logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import onnx_ir as ir

from graphprune.errors import DataError
from graphprune.ir.arrays import Floats
from graphprune.ir.shapes import Sizes
from graphprune.run import USUAL, Progress, Run
from graphprune.runtime.data import batches, layout
from graphprune.runtime.session import open_session
from graphprune.sampling import scores as score
from graphprune.sampling.pool import Arrays, Pool
from graphprune.sampling.scores import Scores
from graphprune.statistics.sites import Site, find_products

CHUNK = 32


@dataclass(frozen=True)
class Features:
    """A pool as its model sees it, a row per sample.

    Attributes:
        pooled: input of the last layer, averaged over positions that are no padding [n, d].
        digests: equal for equal samples [n].
        scores: None where the last layer has no logits.
        classes: of a classifier, else 0.
        weight_norm: of the last layer.
    """

    pooled: Floats
    digests: np.ndarray
    scores: Scores | None = None
    classes: int = 0
    weight_norm: float = 0.0

    @property
    def points(self) -> Floats:
        """`pooled` on the unit sphere."""
        length = np.linalg.norm(self.pooled, axis=1, keepdims=True)
        return np.asarray(self.pooled / np.maximum(length, np.finfo(np.float64).tiny))

    def of(self, numbers: np.ndarray) -> Features:
        """Some of the samples."""
        taken = None if self.scores is None else _map(self.scores, lambda column: column[numbers])
        return Features(self.pooled[numbers], self.digests[numbers], taken, self.classes, self.weight_norm)


@dataclass(frozen=True)
class _Seen:
    """Rows of one feed."""

    pooled: Floats
    scores: Scores | None
    classes: int


def measure(
    model: ir.Model,
    sizes: Sizes,
    pool: Pool,
    *,
    run: Run = USUAL,
) -> Features:
    """Run the whole pool once.

    Raises:
        DataError: the model has no layer to describe samples with.
    """
    sites = find_products(model, sizes)
    if not sites:
        raise DataError("no layer of this model can tell samples apart", "choose random")
    head = sites[-1]
    inputs = {value.name for value in model.graph.inputs}
    tapped = [value.name or "" for value in (head.edge, head.output) if value.name not in inputs]
    session = open_session(model, extra_outputs=tapped, exact=True)
    seen, digests = [], []
    for numbers, arrays in chunks(pool, run.progress, "describing samples"):
        feeds = list(batches(arrays, model, CHUNK))
        digests += _digests(arrays, model)
        made = session.run_each(feeds, run)
        rows = [_look(head, {**feed, **found}, feed) for feed, found in zip(feeds, made, strict=True)]
        seen.append(_per_sample(rows, len(numbers)))
    with_scores = [each.scores for each in seen if each.scores is not None]
    weight = np.asarray(head.weight.const_value.numpy(), np.float64) if head.weight.const_value else 0.0
    return Features(
        np.concatenate([each.pooled for each in seen]),
        np.array(digests),
        _join(with_scores) if len(with_scores) == len(seen) else None,
        seen[0].classes,
        float(np.linalg.norm(weight)),
    )


def chunks(pool: Pool, progress: Progress, what: str) -> Iterator[tuple[range, Arrays]]:
    """The pool in order, some samples at a time."""
    for start in range(0, pool.count, CHUNK):
        progress(start, pool.count, what)
        numbers = range(start, min(start + CHUNK, pool.count))
        yield numbers, pool.take(numbers)
    progress(pool.count, pool.count, what)


def _digests(arrays: Arrays, model: ir.Model) -> list[bytes]:
    found = layout(arrays, model)
    result = []
    for number in range(found.count):
        digest = hashlib.blake2b(digest_size=16)
        rows = found.take(arrays, number)
        for name in sorted(found.axes):
            digest.update(np.ascontiguousarray(rows[name]).tobytes())
        result.append(digest.hexdigest().encode())
    return result


def _look(head: Site, found: Mapping[str, np.ndarray], feed: Arrays) -> _Seen:
    """Features and scores of the rows of one feed."""
    hidden = _flat(found[head.edge.name or ""], head.in_axis)
    product = _flat(found[head.output.name or ""], head.out_axis)
    rows, classes = len(hidden), product.shape[-1]
    bias = _bias(head)
    if head.bias in head.node.inputs:  # else an Add behind the node holds it
        product = product - bias
    mask = _mask(feed, hidden.shape[:2])
    ids = _ids(feed, product.shape[:2])
    if mask is None:
        pooled = hidden.reshape(rows, -1, hidden.shape[-1]).mean(1, dtype=np.float64)
    else:
        pooled = np.stack(
            [row[keep].mean(0, dtype=np.float64) for row, keep in zip(hidden, mask, strict=True)]
        )
    if product[0].size == classes and hidden[0].size == hidden.shape[-1] and classes > 1:
        flat, logits = hidden.reshape(rows, -1), product.reshape(rows, -1).astype(np.float64)
        return _Seen(pooled, score.of_classes(flat, logits, bias), classes)
    if ids is None or product.ndim != 3 or classes < 2:
        return _Seen(pooled, None, 0)
    keep = np.ones(ids.shape, dtype=bool) if mask is None else mask
    return _Seen(
        pooled, _join([_window(*each, bias) for each in zip(hidden, product, ids, keep, strict=True)]), 0
    )


def _window(
    hidden: np.ndarray, product: np.ndarray, ids: np.ndarray, keep: np.ndarray, bias: Floats | float
) -> Scores:
    """Scores of one window, at positions that are followed by a token."""
    at = np.flatnonzero(keep[:-1] & keep[1:])
    return score.of_tokens(hidden[at].astype(np.float64), product[at], bias, ids[at + 1])


def _flat(array: np.ndarray, axis: int) -> np.ndarray:
    """Channels last."""
    return np.moveaxis(array, axis, -1)


def _bias(head: Site) -> Floats | float:
    """What is added to W h to give the logits."""
    if head.bias is None or head.bias.const_value is None:
        return 0.0
    return np.asarray(head.bias.const_value.numpy()).ravel() * head.bias_scale


def _mask(feed: Arrays, shape: tuple[int, ...]) -> np.ndarray | None:
    """Which positions are no padding, where the model is told."""
    for name, array in sorted(feed.items()):
        if (
            "mask" in name.lower()
            and array.shape == shape
            and array.dtype.kind in "iub"
            and array.any(1).all()
        ):
            return np.asarray(array != 0)
    return None


def _ids(feed: Arrays, shape: tuple[int, ...]) -> np.ndarray | None:
    """Token ids, where logits have one row per id."""
    other = ("mask", "position", "type")
    for name, array in sorted(feed.items()):
        if (
            array.shape == shape
            and array.dtype.kind in "iu"
            and not any(word in name.lower() for word in other)
        ):
            return array
    return None


def _per_sample(rows: list[_Seen], count: int) -> _Seen:
    """Means over the rows of each sample."""
    pooled = np.concatenate([each.pooled for each in rows])
    if len(pooled) % count:
        raise DataError("the last layer mixes samples, so it cannot tell them apart", "choose random")
    found = [each.scores for each in rows if each.scores is not None]
    joined = _join(found) if len(found) == len(rows) else None
    mean = None if joined is None else _map(joined, lambda column: column.reshape(count, -1).mean(1))
    return _Seen(pooled.reshape(count, -1, pooled.shape[-1]).mean(1), mean, rows[0].classes)


def _map(scores: Scores, change: Callable[[Floats], Floats]) -> Scores:
    return Scores(*(change(getattr(scores, item.name)) for item in fields(Scores)))


def _join(parts: list[Scores]) -> Scores:
    return Scores(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Scores)))
