"""What is done to a model to lower it, as a value that reports, recipes and plans hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from graphprune.ir.shapes import infer
from graphprune.lowering.engine import Use, apply
from graphprune.lowering.rules import RULES
from graphprune.lowering.table import TARGETS, place_of, table
from graphprune.ops import record_of


@dataclass(frozen=True)
class Rules:
    """The rules that may be used, and why these: a target, and the table that it was read from."""

    target: str
    table: str
    rules: tuple[str, ...]

    def without(self, names: Collection[str]) -> Rules:
        """The same with fewer rules."""
        return Rules(self.target, self.table, tuple(name for name in self.rules if name not in names))


def opened(target: str) -> Rules:
    """What a target opens; for `portable` the same on every machine.

    Raises:
        DataError: it is a file, and no device profile.
    """
    place = place_of(target)
    found, known = table().rules(target, place), [rule.name for rule in RULES]
    called = target if target in TARGETS else place
    return Rules(called, table().hash, tuple(name for name in known if name in found))


def lowered(model: ir.Model, how: Rules, kept: Collection[str] = ()) -> tuple[ir.Model, tuple[Use, ...]]:
    """A lowered copy of a model in normal form, and what was done to it; weights are shared.

    Args:
        model: only read.
        how: the rules.
        kept: names of weights that no rule may touch.
    """
    copy = model.clone()
    rules = [rule for rule in RULES if rule.name in how.rules]
    return copy, apply(copy, infer(copy, record_of), rules, kept)
