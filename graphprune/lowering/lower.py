"""What is done to a model to lower it, as a value that reports, recipes and plans hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphprune.ir.shapes import infer
from graphprune.lowering.engine import Use, apply
from graphprune.lowering.opset import raised
from graphprune.lowering.rules import BY_NAME, RULES
from graphprune.lowering.table import TARGETS, place_of, table
from graphprune.ops import record_of


@dataclass(frozen=True)
class Rules:
    """The rules that may be used, and why these: a target, and the table that it was read from.

    `opset` is the latest one that a file's may be raised to where a rule needs that; 0 leaves it.
    """

    target: str
    table: str
    rules: tuple[str, ...]
    opset: int = 0

    def without(self, names: Collection[str]) -> Rules:
        """The same with fewer rules."""
        return replace(self, rules=tuple(name for name in self.rules if name not in names))


def opened(target: str, raising: bool = False) -> Rules:
    """What a target opens; for `portable` the same on every machine.

    Args:
        target: portable, native, a place of the table, or a device profile.
        raising: whether the opset of a file may be raised, as far as the target's ONNX Runtime reads it.

    Raises:
        DataError: it is a file, and no device profile.
    """
    place = place_of(target)
    found, known = table().rules(target, place), [rule.name for rule in RULES]
    called = target if target in TARGETS else place
    opset = table().reads(target, place) if raising else 0
    return Rules(called, table().hash, tuple(name for name in known if name in found), opset)


def lowered(model: ir.Model, how: Rules, kept: Collection[str] = ()) -> tuple[ir.Model, tuple[Use, ...]]:
    """A lowered copy of a model in normal form, and what was done to it; weights are shared.

    Args:
        model: only read.
        how: the rules.
        kept: names of weights that no rule may touch.
    """
    rules = [rule for rule in RULES if rule.name in how.rules]
    given = model.opset_imports.get("", 0)
    for opset in sorted({rule.needs for rule in rules if given < rule.needs <= how.opset}, reverse=True):
        copy = model.clone()
        if raised(copy, opset):
            uses = apply(copy, infer(copy, record_of), rules, kept)
            if any(BY_NAME[use.rule].needs == opset for use in uses):
                return copy, uses
    copy = model.clone()
    return copy, apply(copy, infer(copy, record_of), rules, kept)
