"""Scales that grow where new numbers do not fit on the grid: what is left carries what is gone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array, Doubles, Floats
from graphprune.labels.stored import is_stored
from graphprune.prune.repair.grid import Lattice
from graphprune.prune.repair.observe import Part
from graphprune.statistics.sites import Site
from graphprune.statistics.stored import Stored


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
    forms = [each for each in (site.stored, site.coded) if each is not None]
    held = [_scale(each, len(flat), int(site.transposed and each is site.stored)) for each in forms]
    if not (flat > 1).any() or any(value is None for value in held) or any(f.readers > 1 for f in forms):
        return None
    if any(v is not None and v.const_value is not None and v.const_value.size == 1 for v in held):
        flat = np.full(len(flat), flat.max())
    scales = {v.name or "": _grown(v, flat) for v in held if v is not None}
    wide = lattice.scale * flat.reshape(growth.shape)[:, :, None]
    return Room(replace(lattice, scale=wide), flat, scales)


def _needed(lattice: Lattice, wanted: Doubles, part: Part) -> Doubles:
    """How many times the range of the grid each row takes."""
    above, below = (lattice.high - lattice.zero), (lattice.zero - lattice.low)
    room = np.where(wanted > 0, above, below) * lattice.scale
    live = part.keep[:, None] & part.live[:, :, None] & (room > 0)
    share = np.divide(np.abs(wanted), room, out=np.zeros_like(wanted), where=live)
    return np.asarray(share.max(axis=2, initial=0.0))


def _scale(stored: Stored, outputs: int, place: int) -> ir.Value | None:
    """The scale, if nothing else reads it and it is one, or one per output along this axis of the tensor."""
    if len(stored.chain.steps) != 1 or stored.chain.steps[0].op_type != "DequantizeLinear":
        return None
    step = stored.chain.steps[0]
    value = step.inputs[1]
    if value is None or value.const_value is None or not is_stored(value) or len(value.uses()) != 1:
        return None
    shape = tuple(value.const_value.shape.numpy())
    axis = step.attributes["axis"].as_int() if "axis" in step.attributes else 1
    along = shape == (outputs,) and axis % len(stored.shape) == place
    return value if value.const_value.size == 1 or along else None


def _grown(value: ir.Value, growth: Doubles) -> Array:
    assert value.const_value is not None
    old = np.asarray(value.const_value.numpy())
    return (old * (growth[0] if old.size == 1 else growth.reshape(old.shape))).astype(old.dtype)


def moved_codes(site: Site, shift: Floats, growth: Floats | None) -> Array:
    """A bias of integers, moved to the codes next to what is wanted; its scale grows with the weight's."""
    assert site.coded is not None and site.coded.grid is not None
    grid, shape = site.coded.grid, site.coded.shape
    steps = shift.reshape(shape) / np.where(grid.scale > 0, grid.scale * site.bias_scale, np.inf)
    wider = np.ones(shape) if growth is None else growth.reshape(shape)
    limits = np.iinfo(np.int32)
    wanted = np.asarray(site.coded.codes(), np.float64) + steps
    return site.coded.write(np.clip(np.rint(wanted / wider), limits.min, limits.max))
