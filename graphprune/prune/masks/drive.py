"""In which order Layers are masked: all from the dense model, or each behind what was masked before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Bools, Doubles
from graphprune.prune.masks.layers import Layer
from graphprune.prune.masks.treat import Masked, Moments, moments
from graphprune.run import Progress
from graphprune.statistics import rows
from graphprune.statistics.measures import Statistics, Wanted
from graphprune.statistics.piece import Altered
from graphprune.statistics.rows import exact
from graphprune.statistics.segments import Layout, Segment
from graphprune.statistics.sites import Site
from graphprune.statistics.stream import Stream

Treat = Callable[[Layer, Moments], Masked]

_CHUNK = 4096


class Needed(NamedTuple):
    """What masks need to know of the inputs: squares of every channel to score by, products to solve with.

    Scores of a pass that needs both come from the squares, so that its mask does not depend on the repair.
    """

    squares: bool
    grams: bool


def wanted(sites: Sequence[Site], needed: Needed) -> Wanted:
    """The same as what to measure at these Sites."""
    names = frozenset(site.name for site in sites if needed.grams)
    axes = {site.edge.name or "": site.in_axis for site in sites if needed.squares}
    return Wanted(vectors=frozenset(axes), axes=axes, grams=names, whole=names)


def oneshot(
    layers: Sequence[Layer], statistics: Statistics, treat: Treat, needed: Needed
) -> Iterator[tuple[Layer, Masked]]:
    """Every Layer from statistics of the dense model."""
    for layer in layers:
        yield layer, treat(layer, known(layer, statistics, needed))


def known(layer: Layer, statistics: Statistics, needed: Needed) -> Moments:
    """The moments of a Layer from statistics of one model."""
    squares = [statistics.vector(site.edge.name or "").squares for site in layer.sites if needed.squares]
    return moments(layer, squares, [statistics.gram(site.name).gram for site in layer.sites if needed.grams])


def stages(layout: Layout, sites: Sequence[Site]) -> list[int]:
    """Where to cut a model so that the inputs of all Sites of a segment are made before it.

    Then every node runs once: what a Site reads is at hand before its weights are decided. There is no cut
    where a value is alive that cannot be handed over; Sites behind it are measured by a run of their own.
    """
    cuts, stuck = [0], _stuck(layout)
    for site in sorted(sites, key=lambda site: layout.position[site.node]):
        at = layout.position[site.node]
        alive = any(made < at <= last for made, last in stuck)
        if layout.made.get(site.edge, -1) >= cuts[-1] and not alive:
            cuts.append(at)
    return cuts


def _stuck(layout: Layout) -> list[tuple[int, int]]:
    """From where to where values live that cannot be handed over: of unknown type, or no tensors."""
    return [
        (made, layout.last.get(value, -1))
        for value, made in layout.made.items()
        if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.UNDEFINED)
    ]


def sequential(
    layers: Sequence[Layer], stream: Stream, treat: Treat, needed: Needed, progress: Progress
) -> Iterator[tuple[Layer, Masked]]:
    """Segment by segment, each measured on what the masked segments before it compute (Wanda, SparseGPT).

    A weight with readers in several segments is masked at the last of them, from the statistics of all.
    """
    owner = {site.name: layer for layer in layers for site in layer.sites}
    squared: dict[str, Doubles] = {}
    grams: dict[str, Doubles] = {}
    last = max(at for at, segment in enumerate(stream.segments) if _own(segment.sites, owner))
    for at, segment in enumerate(stream.segments[: last + 1]):
        progress(at, last + 1, "mask")
        own = _own(segment.sites, owner)
        squared |= _squares(stream, segment, own) if needed.squares else {}
        grams |= _grams(stream, segment, own) if needed.grams else {}
        replaced: dict[str, Array] = {}
        for layer in _due(own, owner):
            found = ([some.pop(site.name) for site in layer.sites if some] for some in (squared, grams))
            masked = treat(layer, moments(layer, *found))
            replaced[layer.name] = masked.applied(layer)
            yield layer, masked
        if at < last:
            stream.advance(segment, Altered(replaced))
    progress(last + 1, last + 1, "mask")


def _grams(stream: Stream, segment: Segment, sites: Sequence[Site]) -> dict[str, Doubles]:
    if not sites:
        return {}
    statistics = stream.measure(segment, wanted(sites, Needed(squares=False, grams=True)))
    return {site.name: statistics.gram(site.name).gram for site in sites}


def _squares(stream: Stream, segment: Segment, sites: Sequence[Site]) -> dict[str, Doubles]:
    """Sums of squares per input channel, and no more: that costs little beside the model."""
    edges = {site.edge.name or "": site for site in sites}
    total: dict[str, Doubles] = {}
    for number, arrays in enumerate(stream.tap(segment, sorted(edges)) if edges else ()):
        for name, site in edges.items():
            part = squares(site, arrays[name], stream.calibration.row_mask(site, number))
            total[name] = total[name] + part if name in total else part
    return {site.name: total[site.edge.name or ""] for site in sites}


def squares(site: Site, edge: Array, mask: Bools | None) -> Doubles:
    """Sum of x^2 per input channel; short sums in float32, which are added in float64."""
    if site.in_axis == 1 and edge.ndim > 2:
        maps = exact(edge).reshape(*edge.shape[:2], -1)
        per_sample = np.einsum("ncp,ncp->nc", maps, maps)
        return np.asarray(per_sample.sum(axis=0, dtype=np.float64))
    source = rows.source(site, edge)
    chosen = source.valid(mask)
    total = np.zeros(edge.shape[site.in_axis])
    for start in range(0, len(chosen), _CHUNK):
        part = exact(source.take(chosen[start : start + _CHUNK])[0])
        total += np.einsum("ij,ij->j", part, part)
    return total


def _own(sites: Sequence[Site], owner: Mapping[str, Layer]) -> list[Site]:
    return [site for site in sites if site.name in owner]


def _due(sites: Sequence[Site], owner: Mapping[str, Layer]) -> list[Layer]:
    """Layers whose last reader is among these Sites."""
    return [owner[site.name] for site in sites if owner[site.name].sites[-1].name == site.name]
