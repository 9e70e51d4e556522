"""Models without their weights: large ones are random numbers of the same spread, out of one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
import onnx_ir as ir

from graphprune.runtime.kit_script import POOL

LEAST = 4096
"""Elements from which a weight comes out of the file; smaller ones may be sizes, bounds or variances."""
ALIGNED = 64
FLOATS = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16"}
CODES = {ir.DataType.INT8: "int8", ir.DataType.UINT8: "uint8"}
SCALES = (-12, 4)
"""Logarithms of the least and the largest spread."""


@dataclass(frozen=True, order=True)
class Pool:
    """A stretch of the file: the type of its numbers, and their spread."""

    dtype: str
    scale: float


class Pools:
    """What models without their weights read."""

    def __init__(self) -> None:
        self._bytes: dict[Pool, int] = defaultdict(int)
        self._drawn: list[tuple[ir.Model, dict[str, tuple[Pool, int]]]] = []

    def add(self, model: ir.Model) -> None:
        """A model that loses its weights to them; each has a place of its own."""
        used: dict[Pool, int] = defaultdict(int)
        places: dict[str, tuple[Pool, int]] = {}
        for name, value in model.graph.initializers.items():
            pool = _pool(value.const_value)
            if pool is None or value.const_value is None:
                continue
            places[name] = pool, used[pool]
            used[pool] += -(-value.const_value.nbytes // ALIGNED) * ALIGNED
            _place(value, 0)
        for pool, size in used.items():
            self._bytes[pool] = max(self._bytes[pool], size)
        self._drawn.append((model, places))

    @property
    def described(self) -> list[dict[str, object]]:
        """Stretches of the file, in order."""
        return [
            {"dtype": pool.dtype, "scale": pool.scale, "bytes": self._bytes[pool]} for pool in self._order
        ]

    @property
    def _order(self) -> Sequence[Pool]:
        return sorted(self._bytes)

    def models(self) -> list[ir.Model]:
        """All that were added; their weights lie in a file that is not there yet."""
        ends = np.cumsum([0, *(self._bytes[pool] for pool in self._order)])
        starts = dict(zip(self._order, ends, strict=False))
        for model, places in self._drawn:
            for name, (pool, offset) in places.items():
                _place(model.graph.initializers[name], int(starts[pool]) + offset)
        return [model for model, _ in self._drawn]


def _pool(tensor: ir.TensorProtocol | None) -> Pool | None:
    """Where a weight comes from; None where it stays as it is."""
    if tensor is None or tensor.size < LEAST:
        return None
    if tensor.dtype in CODES:
        return Pool(CODES[tensor.dtype], 1.0)
    if tensor.dtype not in FLOATS:
        return None
    spread = float(np.std(tensor.numpy(), dtype=np.float64))
    low, high = SCALES
    return Pool(FLOATS[tensor.dtype], 2.0 ** int(np.clip(round(log2(max(spread, 2.0**low))), low, high)))


def _place(value: ir.Value, offset: int) -> None:
    tensor = value.const_value
    assert tensor is not None and isinstance(tensor.shape, ir.Shape)
    value.const_value = ir.ExternalTensor(
        POOL, offset, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name or ""
    )
