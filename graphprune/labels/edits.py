"""What a rewriter must change at a node when labelled axes shrink, as data.

A rule states an edit next to the label algebra that makes it necessary; `prune.edits` carries it out. All
sizes are given as labels, so "the kept size of" is always well defined.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphprune.labels.algebra import Label
from graphprune.labels.structures import Branch, Shuffle


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of one node that follows from cutting labels."""

    node: ir.Node


@dataclass(frozen=True, eq=False)
class AttributeCount(Edit):
    """Attribute `name` := its value times kept/original size of `label`."""

    name: str
    label: Label


@dataclass(frozen=True, eq=False)
class AttributeCounts(Edit):
    """Integer-list attribute `name`: element i := kept size of labels[i]."""

    name: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class AttributeFloat(Edit):
    """Attribute `name` := `value` when any slot of `label` goes (a default that depended on the size)."""

    name: str
    value: float
    label: Label


@dataclass(frozen=True, eq=False)
class ShapeInput(Edit):
    """Element i of the integer input `position` counts the slots of labels[i]: rescale it to kept slots."""

    position: int
    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class SplitSizes(Edit):
    """The sizes of a Split := kept sizes of its outputs' labels."""

    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class SliceBounds(Edit):
    """A Slice over a labelled axis: start/end in kept slots; a Gather where a stride no longer fits."""

    axis: int
    label: Label
    start: int
    end: int
    step: int


@dataclass(frozen=True, eq=False)
class IndexMap(Edit):
    """Constant indices at input `position` point into `label`: renumber kept slots, drop removed ones."""

    position: int
    label: Label


@dataclass(frozen=True, eq=False)
class PadCounts(Edit):
    """Pads of one axis := kept counts of its leading and trailing pad slots."""

    axis: int
    before: Label
    after: Label


@dataclass(frozen=True, eq=False)
class MeanCount(Edit):
    """Multiply the output of a mean over `labels` by kept/original count: the sum then still divides by n."""

    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class RmsCompensation(Edit):
    """gamma' = gamma * sqrt(n/n'), epsilon' = epsilon * n/n' for an RMS norm over `label`."""

    label: Label
    scale: int
    epsilon: str
    default: float


@dataclass(frozen=True, eq=False)
class LayerNormExpansion(Edit):
    """Replace a LayerNormalization over `label` by primitives that still divide by the original count."""

    label: Label


@dataclass(frozen=True, eq=False)
class VarianceCount(Edit):
    """A decomposed LayerNorm's variance: (sum of kept d^2 + (n-n') * mean^2) / n after its ReduceMean."""

    label: Label
    mean: ir.Value


@dataclass(frozen=True, eq=False)
class ClampCount(Edit):
    """A TopK's constant k at input `position`: at most the kept size of `label`."""

    position: int
    label: Label


@dataclass(frozen=True, eq=False)
class SqueezeAxes(Edit):
    """A Squeeze without axes: write down the ones it drops, so that a width cut to 1 is not dropped too."""

    axes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DenseShape(Edit):
    """A Shape that is computed with: restore the original sizes that the arithmetic was written for."""

    labels: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class OldPlaces(Edit):
    """A node that reads neighbours along its last axis: kept slots go back to their old places before it.

    Between them are zeros, as where removal is masking; behind the node the kept places are gathered again.
    """

    label: Label


@dataclass(frozen=True, eq=False)
class BranchRemoval(Edit):
    """Everything that belongs to one slot of a routing axis goes when that slot (`label`) does."""

    label: Label
    branch: Branch


@dataclass(frozen=True, eq=False)
class ShuffleGather(Edit):
    """A shuffle of an axis with `label` (before it) := one Gather of the kept slots."""

    label: Label
    shuffle: Shuffle


def normed(edit: Edit) -> tuple[Label, ...]:
    """Labels over which an edit's node takes a mean or a spread: a cut changes what it makes of the rest."""
    match edit:
        case MeanCount():
            return edit.labels
        case RmsCompensation() | LayerNormExpansion() | VarianceCount():
            return (edit.label,)
        case _:
            return ()
