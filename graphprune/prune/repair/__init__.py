"""Repair: makes up for a cut in closed form, from calibration data."""

from graphprune.axes.kept import Cuts
from graphprune.prune.repair.oneshot import wanted_grams
from graphprune.prune.repair.remains import Change
from graphprune.prune.repair.repair import Driver, Repaired, Way, repair

__all__ = ["Change", "Cuts", "Driver", "Repaired", "Way", "repair", "wanted_grams"]
