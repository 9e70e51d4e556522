"""The last cut with all that later passes made of its weights, so that these are proved against M_R, too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.pipeline.passes import Subject
from graphprune.pipeline.samples import Samples

if TYPE_CHECKING:
    from graphprune.prune.plan import Plan


@dataclass(frozen=True)
class LastCut:
    """A cut, and which weights were changed after it.

    Attributes:
        subject: what was cut.
        plan: how.
        samples: inputs of what was cut.
        changed: initializers that later passes masked or replaced.
    """

    subject: Subject
    plan: Plan
    samples: Samples
    changed: frozenset[str] = field(default_factory=frozenset)

    def then(self, plan: Plan) -> LastCut | None:
        """The same after a plan that only masks and replaces; None after any other."""
        if plan.biases:
            return None
        return replace(self, changed=self.changed | plan.masks.keys() | plan.replaced.keys())

    def with_weights_of(self, model: ir.Model) -> Plan | None:
        """The plan that cuts to the weights of a model; None where one is no cut of one dense tensor."""
        from graphprune.prune.scatter import scattered

        tensors = {name: model.graph.initializers.get(name) for name in self.changed}
        weights = {
            name: np.asarray(value.const_value.numpy())
            for name, value in tensors.items()
            if value is not None and value.const_value is not None
        }
        if len(weights) < len(tensors):
            return None
        dense = scattered(self.subject.analysis, self.plan, weights)
        return None if dense is None else replace(self.plan, replaced={**self.plan.replaced, **dense})
