"""Exact dependency analysis: which slots of which axes are removed together, and what that changes."""

from graphprune.axes.analyse import Analysis, analyse
from graphprune.axes.groups import Group, Pin, Slice
from graphprune.labels.options import Options

__all__ = ["Analysis", "Group", "Options", "Pin", "Slice", "analyse"]
