"""Repair: makes up for a cut in closed form, from calibration data."""

from graphprune.axes.kept import Cuts
from graphprune.prune.repair.oneshot import wanted_grams
from graphprune.prune.repair.repair import Driver, Repaired, repair

__all__ = ["Cuts", "Driver", "Repaired", "repair", "wanted_grams"]
