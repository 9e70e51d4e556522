"""Statistics by the definition: raw values of one run of the whole model, float64, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphprune.runtime.session import open_session
from graphprune.statistics.sites import Site, find_sites

Array = np.ndarray
Feed = dict[str, Array]


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Random floats."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def sites(model: ir.Model) -> dict[str, Site]:
    """Sites by name."""
    return {site.name: site for site in find_sites(model)}


def raw(model: ir.Model, feed: Feed, names: Sequence[str]) -> Feed:
    """Inner values and inputs."""
    inner = [name for name in names if name not in feed]
    return {**feed, **open_session(model, extra_outputs=inner).run(feed)}


def weight(site: Site) -> Array:
    """The stored weight."""
    assert site.weight.const_value is not None
    return np.asarray(site.weight.const_value.numpy())


def channels_last(array: Array, axis: int) -> Array:
    """[rows, channels] in float64."""
    moved = np.moveaxis(array.astype(np.float64), axis, -1)
    return moved.reshape(-1, moved.shape[-1])
