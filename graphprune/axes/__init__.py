"""Exact dependency analysis: which slots of which axes are removed together, and what that changes."""

from graphprune.axes.analyse import Analysis, Options, analyse
from graphprune.axes.groups import Group, Pin, Slice

__all__ = ["Analysis", "Group", "Options", "Pin", "Slice", "analyse"]
