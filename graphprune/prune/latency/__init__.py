"""What a cut does to latency, foreseen: nodes that run, with the Groups that their widths follow."""

from __future__ import annotations

from graphprune.prune.latency.following import Followed, follow
from graphprune.prune.latency.model import LatencyModel

__all__ = ["Followed", "LatencyModel", "follow"]
