"""How far a model differs from itself: a comparison of two graphs cannot look below that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from graphprune.proof.scales import full_scale
from graphprune.runtime.compare import agreement
from graphprune.runtime.session import Outputs

NUDGED = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
FACTOR = 8
"""Times its own rounding that a result may differ: two graphs round at more places than two runs of one."""
MOST = 0.01
"""Rounding never excuses more than this."""


@dataclass(frozen=True)
class Bounds:
    """What a difference may be, relative to the largest element.

    Attributes:
        base: the tolerance that was asked for.
        rounding: of single values, how far the same graph differs from itself.
    """

    base: float
    rounding: Mapping[str, float] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """The bound for one value."""
        return max(self.base, min(FACTOR * self.rounding.get(name, 0.0), MOST))

    @property
    def widest(self) -> float:
        """The largest bound of any value."""
        return max([self.base, *map(self.of, self.rounding)])

    @property
    def notes(self) -> list[str]:
        """What got another bound than the one that was asked for, at its worst."""
        wider = {name: self.of(name) for name in self.rounding if self.of(name) > self.base}
        if not wider:
            return []
        name = max(wider, key=lambda each: wider[each])
        return [
            f"rounding: the masked model differs from itself by up to {self.rounding[name]:.1e} (not "
            f"optimised, or every weight at the next float), so up to {wider[name]:.1e} counts as agreement"
        ]


def nudged(model: ir.Model, seed: int = 0) -> ir.Model:
    """A copy whose weights each moved to a neighbour among floats.

    A computed sum is the exact sum of slightly other terms (Wilkinson 1963): what such a nudge moves, the
    order in which terms are added may move as well.
    """
    copy = model.clone()
    for number, value in enumerate(copy.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or len(tensor.shape) < 2 or tensor.dtype not in NUDGED:
            continue
        make = partial(_nudged, tensor, [seed, number], value.name)
        value.const_value = ir.LazyTensor(make, tensor.dtype, ir.Shape(tensor.shape.numpy()), name=value.name)
    return copy


def _nudged(tensor: ir.TensorProtocol, seed: Sequence[int], name: str | None) -> ir.TensorProtocol:
    array = tensor.numpy()
    up = np.random.default_rng(seed).integers(0, 2, array.shape, dtype=np.int8)
    to = np.where(up, np.inf, -np.inf).astype(array.dtype)
    return ir.Tensor(np.where(array == 0, array, np.nextafter(array, to)), name=name)


def own_rounding(
    runs: Sequence[Outputs], *others: Sequence[Outputs], squashed: Collection[str] = ()
) -> dict[str, float]:
    """The worst relative difference per value from other ways to run the same model on the same inputs.

    Values named `squashed` have a full scale of 1.
    """

    def scaled(run: Outputs) -> Outputs:
        return {name: full_scale(array) if name in squashed else array for name, array in run.items()}

    worst: dict[str, float] = {}
    for other in others:
        for one, two in zip(runs, other, strict=True):
            for found in agreement(scaled(one), scaled(two)).outputs:
                worst[found.name] = max(worst.get(found.name, 0.0), found.relative)
    return worst
