"""Scales that grow where new numbers do not fit on the grid: what is left carries what is gone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles, Floats, Ids
from graphprune.prune.repair.grid import Lattice
from graphprune.prune.repair.observe import Part
from graphprune.statistics.sites import Site
from graphprune.statistics.stored import Stored


@dataclass(frozen=True)
class Room:
    """A grid that holds the new numbers.

    Attributes:
        lattice: of the whole matrix.
        growth: factor of the scale of each output; 1 where scales are not those of outputs.
        scales: new contents of scales, by initializer.
    """

    lattice: Lattice
    growth: Doubles
    scales: dict[str, Array]


def roomy(site: Site, lattice: Lattice, wanted: Doubles, part: Part) -> Room | None:
    """The grid with the scales that the wanted numbers need; None where none does, or they must stay.

    They stay where something else reads them, the weight, or a bias of integers that hangs on them.
    """
    found = _own_scales(site.stored)
    if found is None:
        return None
    value, places = found
    ids = np.asarray(site.arranged(places), np.int64)
    growth = np.ones(1 if value.const_value is None else value.const_value.size)
    needed = _needed(lattice.at(part.rows, part.columns), wanted, part)
    np.maximum.at(growth, ids[:, part.rows[:, None], part.columns], needed)
    scales: dict[str, Array] = {}
    if site.held is not None and site.held.grid is not None:
        own = None if _follows(site.held, site) else _own_scales(site.held)
        if _mixed(ids) or site.held.readers > 1 or (own is None and not _follows(site.held, site)):
            return None
        if own is not None:
            growth = growth if _alike(own[0], value) else np.full_like(growth, growth.max())
            by_output = growth[ids[:, :, 0].ravel()]
            scales[own[0].name or ""] = _grown(own[0], by_output[: 1 if _single(own[0]) else None])
    if not (growth > 1).any():
        return None
    scales[value.name or ""] = _grown(value, growth)
    wide = replace(lattice, scale=lattice.scale * growth[ids])
    return Room(wide, np.ones(site.outputs) if _mixed(ids) else growth[ids[:, :, 0].ravel()], scales)


def _needed(lattice: Lattice, wanted: Doubles, part: Part) -> Doubles:
    """How many times the range of the grid each number takes; 1 where it fits."""
    above, below = (lattice.high - lattice.zero), (lattice.zero - lattice.low)
    room = np.where(wanted > 0, above, below) * lattice.scale
    live = part.keep[:, None] & part.live[:, :, None] & (room > 0)
    return np.maximum(np.divide(np.abs(wanted), room, out=np.zeros_like(wanted), where=live), 1.0)


def _own_scales(stored: Stored) -> tuple[ir.Value, Ids] | None:
    """Its scales, which nothing else reads, and which of them each element has."""
    found = stored.scale_places()
    if found is None or stored.readers > 1 or len(found[0].uses()) != 1 or found[0].is_graph_input():
        return None
    return found[0], np.asarray(found[1], np.int64)


def _mixed(ids: Ids) -> bool:
    """Whether the elements of an output have several scales."""
    return bool((ids != ids[:, :, :1]).any())


def _alike(one: ir.Value, two: ir.Value) -> bool:
    """Whether both have one scale per output, or the second has one for all."""
    return _single(two) or not _single(one)


def _single(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size == 1


def _follows(held: Stored, site: Site) -> bool:
    """Whether a bias has no scale of its own: that of the weight is part of it."""
    return held.reader is not None and held.reader.node is site.node


def _grown(value: ir.Value, growth: Doubles) -> Array:
    assert value.const_value is not None
    old = np.asarray(value.const_value.numpy())
    return (old * growth.reshape(old.shape)).astype(old.dtype)


def moved(site: Site, shift: Floats, growth: Floats | None = None) -> Array:
    """A bias moved where it is stored: codes to those next to what is wanted, as their scale grows."""
    held = site.held
    assert held is not None
    if held.grid is None:
        wanted = np.asarray(held.read(), np.float64) + shift.reshape(held.shape) / site.bias_scale
        return held.write(wanted)
    steps = shift.reshape(held.shape) / np.where(
        held.grid.scale > 0, held.grid.scale * site.bias_scale, np.inf
    )
    wider = np.ones(held.shape) if growth is None else growth.reshape(held.shape)
    limits = np.iinfo(np.int32)
    codes = np.asarray(held.codes(), np.float64) + steps
    return held.write(np.clip(np.rint(codes / wider), limits.min, limits.max))
