"""How far the outputs of a candidate are from those of the dense model, without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphprune.axes import outputs
from graphprune.axes.caches import cache_pairs
from graphprune.errors import DataError
from graphprune.ir.arrays import Array, Bools, Doubles
from graphprune.ops import has
from graphprune.ops.traits import Trait
from graphprune.runtime.data import batches, layout
from graphprune.runtime.gaps import distribution, real_tokens
from graphprune.runtime.session import Feeds, Outputs
from graphprune.statistics.held import Held

Metric = Literal["auto", "jsd", "kl", "l2"]
Scale = outputs.Scale | Literal["numbers", "scores"]

OUTPUT_BYTES = 1 << 27
"""Batches are cut where what one returns is larger: logits of a few token windows are gigabytes."""
JUDGED_BYTES, JUDGED_SAMPLES = 1 << 30, 8
"""Candidates are judged on samples whose outputs together are no larger, but on so many in any case."""
CHUNK = 1 << 16
"""Elements that are compared at a time: they stay in the cache."""
THROUGH = (Trait.COPY, Trait.CAST, Trait.RESHAPE, Trait.AFFINE, Trait.TANH)
"""What may stand between a classifier's product and the output (bias, temperature, soft cap)."""
DEPTH = 6


@dataclass(frozen=True)
class Target:
    """An output that candidates are judged by, what its numbers are, and the axis of its classes."""

    name: str
    scale: Scale
    axis: int = -1


def targets(model: ir.Model, metric: Metric = "auto") -> tuple[Target, ...]:
    """The floating outputs, caches left out.

    With `auto`, what a Softmax or a last product over several classes gives is compared as a distribution,
    all else as numbers; `l2` compares everything as numbers, `jsd` and `kl` everything as distributions.
    """
    caches = set(cache_pairs(model.graph).values())
    outputs = [v for v in model.graph.outputs if v not in caches]
    floats = [v for v in outputs if v.dtype is None or v.dtype.is_floating_point()]
    return tuple(Target(value.name or "", _scale(value, metric)) for value in floats)


def _scale(value: ir.Value, metric: Metric) -> Scale:
    if metric == "l2":
        return "numbers"
    producer = value.producer()
    if producer is not None and _last_axis(producer, value):
        if has(producer, Trait.PROBABILITIES):
            return "probabilities"
        if has(producer, Trait.LOG_PROBABILITIES):
            return "log"
    return "logits" if metric in ("jsd", "kl") or _classifies(value) else "numbers"


def _last_axis(node: ir.Node, value: ir.Value) -> bool:
    axis = node.attributes.get_int("axis", -1)
    return value.shape is not None and axis % len(value.shape) == len(value.shape) - 1


def _classifies(value: ir.Value) -> bool:
    last = value.shape[-1] if value.shape is not None and len(value.shape) >= 2 else None
    if not isinstance(last, int) or last < 2:
        return False
    for _ in range(DEPTH):
        producer = value.producer()
        if producer is None:
            return False
        if has(producer, Trait.PRODUCT):
            return True
        computed = [v for v in producer.inputs if v is not None and v.producer() is not None]
        if not has(producer, *THROUGH) or len(computed) != 1:
            return False
        value = computed[0]
    return False


class Judge:
    """The dense model's outputs on all batches, and how far a candidate is from them.

    Args:
        model: the dense model.
        data: batches of calibration data.
        dense: runs the dense model.
        metric: what to measure; `auto` is `jsd` for distributions and `l2` for the rest.
        note: told if the outputs of all samples are too large, and how many are looked at.

    Raises:
        DataError: the model has no floating output.
    """

    def __init__(
        self,
        model: ir.Model,
        data: Sequence[Feeds],
        dense: Callable[[Feeds], Outputs],
        metric: Metric = "auto",
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._metric = metric
        self._targets = self._read(model)
        if not self._targets:
            raise DataError("the model has no floating output by which to judge candidates")
        self._batches = _batches(model, data, dense, note)
        self._dense = Held()
        for number, feeds in enumerate(self._batches):
            for name, array in _chosen(dense(feeds), self._targets).items():
                self._dense.put(number, name, array)
        self._rows = [real_tokens(feeds) for feeds in self._batches]

    @property
    def batches(self) -> Sequence[Feeds]:
        """What candidates are run on."""
        return self._batches

    def losses(self, run: Callable[[Feeds], Outputs]) -> dict[str, float]:
        """Divergence per output; infinite where the candidate computes no numbers."""
        totals = {target.name: np.zeros(2) for target in self._targets}
        for number, (feeds, rows) in enumerate(zip(self._batches, self._rows, strict=True)):
            outputs, dense = run(feeds), self._dense[number]
            for target in self._targets:
                pair = (_rows_of(array[target.name], rows, target.axis) for array in (dense, outputs))
                totals[target.name] += self._part(target.scale, *pair)
        return {target.name: self._total(target.scale, totals[target.name]) for target in self._targets}

    def loss(self, run: Callable[[Feeds], Outputs]) -> float:
        """The worst divergence of any output."""
        return max(self.losses(run).values())

    def _read(self, model: ir.Model) -> tuple[Target, ...]:
        """What candidates are judged by."""
        return targets(model, self._metric)

    def _part(self, scale: Scale, dense: Array, other: Array) -> Doubles:
        """A sum over rows and what it is divided by."""
        if scale == "numbers":
            one, two = dense.astype(np.float64), other.astype(np.float64)
            return np.array([np.sum((one - two) ** 2), np.sum(one**2)])
        measure = kl if self._metric == "kl" else jsd
        total, count = 0.0, 0
        for rows, others in _chunks(dense, other):
            one, two = (_distribution(each, scale) for each in (rows, others))
            total += float(measure(one, two).sum())
            count += len(rows)
        return np.array([total, count])

    @staticmethod
    def _total(scale: Scale, sums: Doubles) -> float:
        value = float(sums[0] / max(sums[1], 1e-300))
        value = float(np.sqrt(value)) if scale == "numbers" else value
        return value if np.isfinite(value) else float("inf")


def _batches(
    model: ir.Model, data: Sequence[Feeds], dense: Callable[[Feeds], Outputs], note: Callable[[str], None]
) -> list[Feeds]:
    """Samples whose outputs can be held, in batches that return little enough at a time."""
    if not data:
        return []
    single = sum(array.nbytes for array in dense(next(batches(data[0], model, size=1))).values())
    size = max(1, OUTPUT_BYTES // max(1, single))
    most = max(JUDGED_SAMPLES, JUDGED_BYTES // max(1, single))
    total = sum(layout(feeds, model).count for feeds in data)
    found: list[Feeds] = []
    samples = 0
    for feeds in data:
        for part in batches(feeds, model, size=size):
            if samples >= most:
                filled = samples * single / 1e9
                note(f"judged on {samples} of {total} samples: their outputs fill {filled:.1f} GB")
                return found
            found.append(part)
            samples += max(1, layout(part, model).count)
    return found


def _chosen(outputs: Outputs, wanted: Iterable[Target]) -> dict[str, Array]:
    return {target.name: outputs[target.name] for target in wanted}


def _distribution(rows: Array, scale: Scale) -> Doubles:
    assert scale != "numbers" and scale != "scores"
    return distribution(rows.astype(np.float64), scale)


def _rows_of(array: Array, real: Bools | None, axis: int) -> Array:
    if axis % max(1, array.ndim) != array.ndim - 1 and array.ndim:
        array = np.moveaxis(array, axis, -1)
    if real is not None and array.ndim > 2 and array.shape[:2] == real.shape:
        array = array[real]
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _chunks(one: Array, two: Array) -> Iterator[tuple[Array, Array]]:
    step = max(1, CHUNK // max(1, one.shape[-1]))
    for start in range(0, len(one), step):
        yield one[start : start + step], two[start : start + step]


def kl(p: Doubles, q: Doubles) -> Doubles:
    """Kullback-Leibler divergence of each row, in nats; finite also where q is zero and p is not."""
    from scipy.special import rel_entr

    return np.asarray(rel_entr(p, np.maximum(q, np.finfo(np.float64).tiny)).sum(axis=-1))


def jsd(p: Doubles, q: Doubles) -> Doubles:
    """Jensen-Shannon divergence of each row, in nats: symmetric, at most ln 2."""
    from scipy.special import rel_entr

    middle = (p + q) / 2
    return np.asarray((rel_entr(p, middle).sum(axis=-1) + rel_entr(q, middle).sum(axis=-1)) / 2)
