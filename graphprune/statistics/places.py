"""Where values have their channels, and which of their rows are padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, did_you_mean
from graphprune.ir.arrays import Bools
from graphprune.ir.names import quote
from graphprune.ir.operators import Shape
from graphprune.ir.shapes import Sizes
from graphprune.labels.algebra import divides
from graphprune.runtime.session import Feeds
from graphprune.statistics.reductions import Place
from graphprune.statistics.sites import Site


class Places:
    """What is known about the axes of the values of a model.

    Args:
        model: only read.
        sizes: of its values.
        sites: their edges and outputs have a known channel axis.
        batches: calibration data; padding is looked for in a mask among them.
        axes: channel axes of values where it is not the obvious one.
    """

    def __init__(
        self,
        model: ir.Model,
        sizes: Sizes,
        sites: Sequence[Site],
        batches: Sequence[Feeds],
        axes: Mapping[str, int] | None = None,
    ) -> None:
        self._values = {v.name or "": v for node in model.graph for v in node.outputs}
        self._values |= {v.name or "": v for v in model.graph.inputs}
        self._sizes = sizes
        self._axes = {site.output.name or "": site.out_axis for site in sites if not site.hidden}
        self._axes |= {site.edge.name or "": site.in_axis for site in sites} | dict(axes or {})
        self._reads = {site.edge.name or "": site.reads for site in sites if site.reads is not None}
        self._inputs = tuple(v for v in model.graph.inputs if v.const_value is None and v.shape)
        self._mask = next((v for v in self._inputs if _is_mask(v) and _pads(v, batches)), None)

    def value(self, name: str) -> ir.Value:
        """The value of a name.

        Raises:
            ArgumentError: there is none.
        """
        if name not in self._values:
            raise ArgumentError(
                f"the model computes no value {quote(name)}", did_you_mean(name, self._values)
            )
        return self._values[name]

    def place(self, name: str) -> Place:
        """The axes of a value.

        Raises:
            ArgumentError: there is no such value, or its shape is not known.
        """
        shape = self._sizes.shapes.get(self.value(name))
        if not shape:
            raise ArgumentError(f"the shape of {quote(name)} is not known, so it has no channels to measure")
        rank = len(shape)
        axis = self._axes.get(name, 1 if rank >= 4 else -1) % rank
        channels = shape[axis][0] if shape[axis][0] == shape[axis][1] else None
        last = axis == rank - 1
        first = (self._sizes.shapes.get(self._inputs[0]) if self._inputs else None) or ((0, 0),)
        flat = rank == 2 and last and divides(first[0], shape[0])
        masked = last and self._is_masked(shape) and (rank > 2 or (flat and channels is not None))
        return Place(name, rank, axis, channels, flat, masked, self._reads.get(name))

    def _is_masked(self, shape: Shape) -> bool:
        mask = self._sizes.shapes.get(self._mask) if self._mask is not None else None
        if mask is None:
            return False
        tokens = (prod(a for a, _ in mask), prod(b for _, b in mask))
        return shape[:-1] == mask or (len(shape) == 2 and shape[0] == tokens)

    def samples(self, feed: Feeds) -> int:
        """Samples of a batch: the first axis of the first input."""
        name = (self._inputs[0].name or "") if self._inputs else ""
        return len(feed[name]) if name in feed and feed[name].ndim else 1

    def mask(self, feed: Feeds) -> Bools | None:
        """False for padding, [samples, tokens]; None where nothing is padding."""
        name = "" if self._mask is None else self._mask.name or ""
        return np.asarray(feed[name] != 0) if name in feed else None


def _is_mask(value: ir.Value) -> bool:
    whole = value.dtype in (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64)
    return (
        whole and value.shape is not None and len(value.shape) == 2 and "mask" in (value.name or "").lower()
    )


def _pads(value: ir.Value, batches: Sequence[Feeds]) -> bool:
    name = value.name or ""
    return any(name in feed and not np.all(feed[name]) for feed in batches)
