"""One graph of the zoo with what several relations need of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir

from graphprune.axes import Analysis, Group
from graphprune.proof.survivors import Survivors
from graphprune.prune.plan import Plan
from graphprune.prune.rewrite import rewrite
from graphprune.runtime.inputs import runnable_inputs
from tools import relations

PASSES = relations.LOCAL
PERMUTED = 3
"""Groups per graph that relations about single groups look at, spread over the graph."""


class NotApplicableError(Exception):
    """The relation says nothing about this graph."""


@dataclass
class Member:
    """One graph of the zoo, with what several relations need of it."""

    path: Path

    @cached_property
    def model(self) -> ir.Model:
        return ir.load(self.path)

    @cached_property
    def feeds(self) -> dict[str, np.ndarray]:
        return runnable_inputs(self.model)

    @cached_property
    def analysis(self) -> Analysis:
        return relations.analysed(self.model)

    @cached_property
    def plan(self) -> Plan:
        return relations.decided(self.model, PASSES)

    @cached_property
    def small(self) -> ir.Model:
        return rewrite(self.analysis.model, self.analysis, self.plan)

    @cached_property
    def simple(self) -> list[Group]:
        """Some groups without blocks whose Units are rows and columns of floating weights."""
        found = [g for g in self.analysis.prunable if g.block is None and g.size > 1 and _plain(g)]
        return found[:: max(1, len(found) // PERMUTED)]

    def results(self, model: ir.Model) -> relations.Outputs:
        """What a model of the same interface gives for the member's inputs."""
        return relations.outputs(model, self.feeds)

    def cut(self, analysis: Analysis, plan: Plan, model: ir.Model) -> relations.Outputs:
        """What a cut model gives for them, with the caches cut likewise."""
        survivors = Survivors(analysis, plan)
        labels = {value.name: analysis.values.get(value, ()) for value in analysis.model.graph.inputs}
        feeds = {name: survivors.restrict(array, labels[name]) for name, array in self.feeds.items()}
        return relations.outputs(model, feeds)

    def flat(self) -> None:
        """The transformations know one graph only.

        Raises:
            NotApplicableError: the model has branches or bodies.
        """
        if any(True for _ in self.model.graph.subgraphs()):
            raise NotApplicableError


def _plain(group: Group) -> bool:
    roles = {"source", "sink", "scale", "bias", "stat"}
    values = [s.use.value.const_value for s in group.slices]
    floats = all(value is not None and value.dtype.is_floating_point() for value in values)
    return floats and all(s.blocks == 1 and s.role in roles for s in group.slices)


def scaled(member: Member, group: Group, units: np.ndarray, factors: dict[str, float]) -> ir.Model:
    """The model in normal form with slices of some Units times a factor per role."""
    model = member.analysis.model.clone()
    for owned in group.slices:
        factor = factors.get(owned.role)
        value = model.graph.initializers[owned.initializer]
        if factor is None or value.const_value is None:
            continue
        array = np.array(value.const_value.numpy())
        owners, slots = owned.pairs
        where = (slice(None),) * owned.axis + (np.unique(slots[np.isin(owners, units)]),)
        array[where] *= factor
        value.const_value = ir.tensor(array, name=value.name)
    return model
