"""The rules that ship, in order of precedence."""

from __future__ import annotations

from graphprune.lowering.rule import Rule
from graphprune.lowering.rules import activations, affine, gates, layout, norms, pooled, powers

RULES: tuple[Rule, ...] = (
    *activations.RULES,
    *gates.RULES,
    *affine.RULES,
    *layout.RULES,
    *pooled.RULES,
    *norms.RULES,
    *powers.RULES,
)
BY_NAME = {rule.name: rule for rule in RULES}
