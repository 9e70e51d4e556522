"""What calibration data runs through: the dense model, with gates where zero weights remove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphprune.axes.analyse import Analysis
from graphprune.ir.arrays import Array
from graphprune.ir.shapes import Sizes, infer
from graphprune.ops import record_of
from graphprune.prune.gates import Gated, competing, gated
from graphprune.prune.repair.remains import Change, cut_groups
from graphprune.prune.zeroed import zeroed


@dataclass(frozen=True, eq=False)
class Stage:
    """A model that computes what the dense one does, and with other weights what the cut one does.

    Attributes:
        model: the dense model; its copy with gates as weights where a sublayer goes or Units compete.
        sizes: of its values.
        twin: contents of initializers that make the cut model of it.
        gates: those among them that the dense model does not have.
        whole: results of nodes that are not parted, by name.
    """

    model: ir.Model
    sizes: Sizes
    twin: Mapping[str, Array]
    gates: Mapping[str, Array]
    whole: tuple[tuple[str, ...], ...] = ()


def staged(analysis: Analysis, change: Change) -> Stage:
    """The stage for a change. Values and weights of the dense model keep their names."""
    zeros = zeroed(analysis, change.cuts, change.base)
    groups = competing(analysis, cut_groups(analysis, change.cuts))
    if not groups and not change.bypassed:
        return Stage(analysis.model, analysis.sizes, zeros, {})
    made = gated(analysis, groups, change.bypassed)
    gates = made.gates(change.cuts, [item.name for item in change.bypassed])
    _open(made)
    return Stage(made.model, infer(made.model, record_of), {**zeros, **gates}, gates)


def _open(made: Gated) -> None:
    """Gates become weights, all of them 1."""
    graph = made.model.graph
    names = {*made.groups.values(), *made.sublayers.values()}
    values = [value for value in graph.inputs if value.name in names]
    graph.inputs[:] = [value for value in graph.inputs if value.name not in names]
    for value in values:
        assert value.shape is not None
        value.const_value = ir.Tensor(np.ones(value.shape.numpy(), np.float32), name=value.name)
        graph.register_initializer(value)
