"""What the analysis declares that a rewrite changes besides slicing, recomputed from the labels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from graphprune.ir.arrays import Array
from graphprune.labels import edits
from graphprune.labels.algebra import is_static, size_of
from graphprune.labels.structures import Branch, Shuffle
from graphprune.proof.gone import Gone, gathered, without
from graphprune.proof.survivors import Survivors

Change = Callable[[Array | None], Array | None]
"""From the dense value of an attribute or input (None: absent) to the pruned one."""

Place = tuple[ir.Node, str | int]
"""An attribute, by name, or an input, by position, of a dense node."""


@dataclass(eq=False)
class Declared:
    """Every difference that may exist besides sliced initializers.

    Attributes:
        changes: what each place turns into; several edits of one place apply in turn.
        free: places that may change freely, because only a run can judge them (bounds of a Slice).
        scales: factors on sliced initializers (RMS compensation).
        open: nodes that may be replaced by, or surrounded with, inserted nodes.
        removed: experts that go with all their nodes.
        gathers: shuffles of which a Gather is left.
        gone: what the last two leave.
    """

    changes: dict[Place, list[Change]] = field(default_factory=dict)
    free: set[Place] = field(default_factory=set)
    scales: dict[Place, float] = field(default_factory=dict)
    open: set[ir.Node] = field(default_factory=set)
    removed: list[Branch] = field(default_factory=list)
    gathers: list[Shuffle] = field(default_factory=list)
    gone: Gone = field(default_factory=Gone)

    def add(self, place: Place, change: Change) -> None:
        """Declares one more change of a place."""
        self.changes.setdefault(place, []).append(change)

    def expected(self, place: Place, dense: Array | None) -> Array | None:
        """The value that a place must have in the pruned model."""
        for change in self.changes.get(place, ()):
            dense = change(dense)
        return dense


def declare(survivors: Survivors) -> Declared:
    """Collects the edits whose labels really shrink."""
    declared = Declared()
    for edit in survivors.analysis.edits:
        state = TABLE.get(type(edit))
        if state is not None:  # an edit that is not known here declares nothing, so what it changes fails
            state(declared, survivors, edit)
    declared.gone = without(declared.removed, survivors.bypassed)
    for shuffle in declared.gathers:
        gathered(declared.gone, shuffle)
    for node, positions in declared.gone.dropped.items():
        if positions:
            declared.free.update((node, position) for position in range(len(node.inputs)))
    return declared


def _count(declared: Declared, survivors: Survivors, edit: edits.AttributeCount) -> None:
    if survivors.touched(edit.label):
        kept, dense = survivors.counts(edit.label)
        place: Place = (edit.node, edit.name)
        declared.add(place, lambda old: np.array(int(1 if old is None else old) * kept // dense))


def _counts(declared: Declared, survivors: Survivors, edit: edits.AttributeCounts) -> None:
    if survivors.touched(*edit.labels):
        sizes = np.array([survivors.counts(label)[0] for label in edit.labels])
        declared.add((edit.node, edit.name), lambda old: sizes)


def _float(declared: Declared, survivors: Survivors, edit: edits.AttributeFloat) -> None:
    if survivors.touched(edit.label):
        declared.add((edit.node, edit.name), lambda old: np.array(edit.value, np.float32))


def _shape(declared: Declared, survivors: Survivors, edit: edits.ShapeInput) -> None:
    if not survivors.touched(*edit.labels):
        return
    pairs = [survivors.counts(label) if is_static(size_of(label)) else (0, 0) for label in edit.labels]

    def rescale(old: Array | None) -> Array | None:
        if old is None or old.size != len(pairs):
            return old
        sizes = zip(np.ravel(old).astype(np.int64).tolist(), pairs, strict=True)
        return np.array([kept if n == dense else n for n, (kept, dense) in sizes])

    declared.add((edit.node, edit.position), rescale)
    declared.open.add(edit.node)
    target = edit.node.inputs[edit.position]
    pieces = target.producer() if target is not None else None
    if pieces is not None and pieces.op_type == "Concat":
        declared.free.update((pieces, position) for position in range(len(pieces.inputs)))


def _split(declared: Declared, survivors: Survivors, edit: edits.SplitSizes) -> None:
    if not survivors.touched(*edit.labels):
        return
    sizes = np.array([survivors.counts(label)[0] for label in edit.labels])
    declared.free.add((edit.node, "num_outputs"))
    place = "split" if survivors.analysis.model.opset_imports.get("", 1) < 13 else 1
    declared.add((edit.node, place), lambda old: sizes)


def _slice(declared: Declared, survivors: Survivors, edit: edits.SliceBounds) -> None:
    if survivors.touched(edit.label):
        declared.free.update((edit.node, place) for place in ("starts", "ends", "axes", 1, 2, 3, 4))
        declared.open.add(edit.node)


def _renumbered(mask: Array, old: Array) -> Array:
    """Kept positions for dense ones; removed entries are dropped."""
    dense = np.asarray(old, np.int64) % len(mask)
    number = np.cumsum(mask) - 1
    return np.asarray(number[dense if dense.ndim == 0 else dense[np.asarray(mask)[dense]]])


def _index(declared: Declared, survivors: Survivors, edit: edits.IndexMap) -> None:
    mask = survivors.mask(edit.label)
    if mask is not None:
        kept = mask
        declared.add((edit.node, edit.position), lambda old: None if old is None else _renumbered(kept, old))


def _pads(declared: Declared, survivors: Survivors, edit: edits.PadCounts) -> None:
    if not survivors.touched(edit.before, edit.after):
        return
    before, after = (survivors.counts(label)[0] for label in (edit.before, edit.after))
    axes = _pad_axes(survivors, edit.node)

    def recount(old: Array | None) -> Array | None:
        if old is None:
            return None
        pads = np.array(old)
        listed = axes if axes is not None else list(range(pads.size // 2))
        index = listed.index(edit.axis)
        pads[index], pads[index + len(listed)] = before, after
        return pads

    declared.add((edit.node, "pads" if "pads" in edit.node.attributes else 1), recount)


def _pad_axes(survivors: Survivors, node: ir.Node) -> list[int] | None:
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if axes is None or axes.const_value is None:
        return None
    rank = len(survivors.edge(node, 0))
    return [int(axis) % rank for axis in np.ravel(axes.const_value.numpy())]


def _mean(declared: Declared, survivors: Survivors, edit: edits.MeanCount) -> None:
    if survivors.touched(*edit.labels):
        declared.open.add(edit.node)


def _rms(declared: Declared, survivors: Survivors, edit: edits.RmsCompensation) -> None:
    if not survivors.touched(edit.label):
        return
    grown = survivors.ratio(edit.label)
    declared.scales[(edit.node, edit.scale)] = float(np.sqrt(grown))
    declared.add(
        (edit.node, edit.epsilon),
        lambda old: np.array((edit.default if old is None else float(old)) * grown, np.float32),
    )


def _expansion(declared: Declared, survivors: Survivors, edit: Any) -> None:
    if survivors.touched(edit.label):
        declared.open.add(edit.node)


def _restored(declared: Declared, survivors: Survivors, edit: edits.DenseShape) -> None:
    if survivors.touched(*edit.labels):
        declared.open.add(edit.node)


def _clamp(declared: Declared, survivors: Survivors, edit: edits.ClampCount) -> None:
    kept, _ = survivors.counts(edit.label)
    if survivors.touched(edit.label):
        declared.add((edit.node, edit.position), lambda old: None if old is None else np.minimum(old, kept))


def _branch(declared: Declared, survivors: Survivors, edit: edits.BranchRemoval) -> None:
    if survivors.touched(edit.label):
        declared.removed.append(edit.branch)


def _shuffle(declared: Declared, survivors: Survivors, edit: edits.ShuffleGather) -> None:
    if survivors.touched(edit.label):
        declared.gathers.append(edit.shuffle)
        declared.open.add(edit.shuffle.last)


def _old_places(declared: Declared, survivors: Survivors, edit: edits.OldPlaces) -> None:
    """What stands around the node is judged by running it: its weights are compared as ever."""
    if survivors.touched(edit.label):
        declared.open.add(edit.node)


def _squeeze(declared: Declared, survivors: Survivors, edit: edits.SqueezeAxes) -> None:
    """Writing the dropped axes down never changes what Squeeze does, so it is allowed at any time."""
    place = "axes" if survivors.analysis.model.opset_imports.get("", 1) < 13 else 1
    declared.free.add((edit.node, place))


TABLE: dict[type, Callable[[Declared, Survivors, Any], None]] = {
    edits.AttributeCount: _count,
    edits.AttributeCounts: _counts,
    edits.AttributeFloat: _float,
    edits.ShapeInput: _shape,
    edits.SplitSizes: _split,
    edits.SliceBounds: _slice,
    edits.IndexMap: _index,
    edits.PadCounts: _pads,
    edits.MeanCount: _mean,
    edits.RmsCompensation: _rms,
    edits.VarianceCount: _expansion,
    edits.LayerNormExpansion: _expansion,
    edits.ClampCount: _clamp,
    edits.SqueezeAxes: _squeeze,
    edits.DenseShape: _restored,
    edits.BranchRemoval: _branch,
    edits.ShuffleGather: _shuffle,
    edits.OldPlaces: _old_places,
}
