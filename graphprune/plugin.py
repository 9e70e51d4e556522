"""Everything that a package of your own may import to add a pass or a criterion (docs/plugins.md).

What is named here stays; everything else may change with any version.
"""

from __future__ import annotations

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.groups import Slice
from graphprune.errors import ArgumentError, DataError, ModelError, PromiseError
from graphprune.pipeline.passes import Context, Pass, Subject
from graphprune.pipeline.structured import Structured
from graphprune.prune.criterion import (
    Criterion,
    Evidence,
    activations,
    by_output,
    by_sink,
    inputs,
    moments,
    outputs,
    ranks,
)
from graphprune.prune.evidence import Output, Sink, SiteIndex
from graphprune.prune.plan import Plan
from graphprune.prune.saliency import per_unit, scored_slices
from graphprune.prune.scoring import score_groups
from graphprune.statistics.measures import Statistics, Wanted

__all__ = [
    "Analysis",
    "ArgumentError",
    "Context",
    "Criterion",
    "DataError",
    "Evidence",
    "Group",
    "ModelError",
    "Options",
    "Output",
    "Pass",
    "Plan",
    "PromiseError",
    "Sink",
    "SiteIndex",
    "Slice",
    "Statistics",
    "Structured",
    "Subject",
    "Wanted",
    "activations",
    "by_output",
    "by_sink",
    "inputs",
    "moments",
    "outputs",
    "per_unit",
    "ranks",
    "score_groups",
    "scored_slices",
]
