"""Scales that grow where new numbers do not fit on the grid: what is left carries what is gone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles, Floats
from graphprune.labels.state import Use
from graphprune.labels.stored import is_stored
from graphprune.prune.repair.grid import Lattice
from graphprune.prune.repair.observe import Part
from graphprune.statistics.sites import Site
from graphprune.statistics.stored import Stored, axis_of, scales_of


@dataclass(frozen=True)
class Room:
    """A grid that holds the new numbers.

    Attributes:
        lattice: of the whole matrix.
        growth: factor of the scale of each output.
        scales: new contents of scales, by initializer.
    """

    lattice: Lattice
    growth: Doubles
    scales: dict[str, Array]


def roomy(site: Site, lattice: Lattice, wanted: Doubles, part: Part) -> Room | None:
    """The grid with the scales that the wanted numbers need; None where none does, or they must stay.

    They stay where something else reads them or the bias that hangs on them, and where they are not those of
    outputs.
    """
    growth = np.ones(lattice.scale.shape[:2])
    growth[:, part.rows] = np.maximum(_needed(lattice.at(part.rows, part.columns), wanted, part), 1.0)
    flat = growth.ravel()
    forms = [site.stored, *([] if site.held is None or _follows(site.held, site) else [site.held])]
    found = [_scale(each, len(flat), int(site.transposed and each is site.stored)) for each in forms]
    if not (flat > 1).any() or any(value is None for value in found) or any(f.readers > 1 for f in forms):
        return None
    if any(v is not None and v.const_value is not None and v.const_value.size == 1 for v in found):
        flat = np.full(len(flat), flat.max())
    scales = {v.name or "": _grown(v, flat) for v in found if v is not None}
    wide = lattice.scale * flat.reshape(growth.shape)[:, :, None]
    return Room(replace(lattice, scale=wide), flat, scales)


def _needed(lattice: Lattice, wanted: Doubles, part: Part) -> Doubles:
    """How many times the range of the grid each row takes."""
    above, below = (lattice.high - lattice.zero), (lattice.zero - lattice.low)
    room = np.where(wanted > 0, above, below) * lattice.scale
    live = part.keep[:, None] & part.live[:, :, None] & (room > 0)
    share = np.divide(np.abs(wanted), room, out=np.zeros_like(wanted), where=live)
    return np.asarray(share.max(axis=2, initial=0.0))


def _follows(held: Stored, site: Site) -> bool:
    """Whether a bias has no scale of its own: that of the weight is part of it, or it is stored as floats."""
    return held.grid is None or (held.reader is not None and held.reader.node is site.node)


def _scale(stored: Stored, outputs: int, place: int) -> ir.Value | None:
    """The scale, if nothing else reads it and it is one, or one per output along this axis of the tensor."""
    steps = stored.chain.steps
    use = Use(steps[0], 0) if steps else stored.reader
    scales = [] if use is None or len(steps) > 1 else scales_of(use)
    value = scales[0] if len(scales) == 1 else None
    if use is None or value is None or value.const_value is None or len(value.uses()) != 1:
        return None
    if not is_stored(value) or value.is_graph_input():
        return None
    along = tuple(value.const_value.shape.numpy()) == (outputs,)
    return value if value.const_value.size == 1 or (along and axis_of(use) == place) else None


def _grown(value: ir.Value, growth: Doubles) -> Array:
    assert value.const_value is not None
    old = np.asarray(value.const_value.numpy())
    return (old * (growth[0] if old.size == 1 else growth.reshape(old.shape))).astype(old.dtype)


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
