"""All that a package of yours may import to add a pass, a criterion or an operator (docs/plugins.md).

What is named here stays; everything else may change with any version.
"""

from __future__ import annotations

from graphprune.axes import Analysis, Group, Options
from graphprune.axes.groups import Slice
from graphprune.errors import ArgumentError, DataError, ModelError, PromiseError
from graphprune.ir.operators import Shaping
from graphprune.labels.edits import AttributeCount
from graphprune.labels.visit import Visit
from graphprune.ops import like
from graphprune.ops.elementwise import broadcast
from graphprune.ops.record import Layer, Record
from graphprune.ops.shaping import same
from graphprune.ops.traits import Trait
from graphprune.pipeline.passes import Context, Pass, Subject, argument
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
from graphprune.prune.gradient_criteria import by_element, by_gate
from graphprune.prune.gradients import Gradients, Reading
from graphprune.prune.plan import Plan
from graphprune.prune.saliency import per_unit, scored_slices
from graphprune.prune.scoring import score_groups
from graphprune.statistics.measures import Statistics, Wanted

__all__ = [
    "Analysis",
    "ArgumentError",
    "AttributeCount",
    "Context",
    "Criterion",
    "DataError",
    "Evidence",
    "Gradients",
    "Group",
    "Layer",
    "ModelError",
    "Options",
    "Output",
    "Pass",
    "Plan",
    "PromiseError",
    "Reading",
    "Record",
    "Shaping",
    "Sink",
    "SiteIndex",
    "Slice",
    "Statistics",
    "Structured",
    "Subject",
    "Trait",
    "Visit",
    "Wanted",
    "activations",
    "argument",
    "broadcast",
    "by_element",
    "by_gate",
    "by_output",
    "by_sink",
    "inputs",
    "like",
    "moments",
    "outputs",
    "per_unit",
    "ranks",
    "same",
    "score_groups",
    "scored_slices",
]
