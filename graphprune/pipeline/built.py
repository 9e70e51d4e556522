"""What a plan leaves, built before it is decided on: for what can only be measured on the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphprune.axes import Analysis, analyse

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphprune.prune.plan import Plan


def built(analysis: Analysis, plan: Plan) -> ir.Model:
    """The pruned model, as the manager would write it."""
    from graphprune.prune.bias import with_biases
    from graphprune.prune.rewrite import rewrite

    if not plan.biases:
        return rewrite(analysis.model, analysis, plan)
    model = with_biases(analysis.model, plan.biases)
    return rewrite(model, analyse(model, plan.options), plan)
