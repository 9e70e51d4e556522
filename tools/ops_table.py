"""Writes docs/ops.md from the transfer table: `python -m tools.ops_table`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from graphprune import ops as rules
from graphprune.ir.preflight.structure import OPSETS
from graphprune.ops import BY_OP, MODULES
from graphprune.ops.record import Record
from graphprune.ops.traits import Trait

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ops.md"
TITLES = {
    "elementwise": "Element by element",
    "linear": "Products and convolutions",
    "norm": "Normalisers",
    "reduce": "Reductions, pooling, resampling",
    "reshape": "Regrouping",
    "select": "Joining, parting, picking",
    "recurrent": "Recurrent",
    "attention": "Fused attention",
    "packed_attention": "Fused attention with its projection",
    "rotary": "Rotary position embedding",
    "linear_attention": "Linear attention and caches",
    "quantised": "Quantised",
    "blocks": "Weights in quantisation blocks",
    "fused": "Fused by a runtime",
    "experts": "Mixtures of experts",
    "control": "Control flow, and operators that read axes by position",
}
INTRO = """# Operators

<!-- generated: python -m tools.ops_table -->

What graphprune knows about each operator, generated from the table that the analysis itself reads
(`graphprune/ops/`): {known} operators in {rows} rows. Opsets {first} to {last}; names after a domain belong
to it. An operator that is not here, whatever its domain, is a barrier: every axis it touches is pinned, and
`inspect` names it. To teach graphprune one more, see [CONTRIBUTING](../CONTRIBUTING.md#add-an-operator).

**Rule** says which axes shrink together: `x.1` is axis 1 of input x, `W.0` axis 0 of the weight, `=` ties
two axes slot by slot, `a x b` is an axis made of two factors, *fixed* never shrinks. **Edits** says what the
rewriter changes besides slicing the weights that the rule names. **Traits** say what an operator is to all
other parts of graphprune, which ask for them and not for its name; what each means stands [below](#traits).
**Weight** says which input is the weight W, which of its axes makes output channels (rows) and which is
contracted (columns), before a transposition that the node asks for, and which input is the bias b.

**Exactness** says why the cut model computes what the masked one does:

| class | why |
|---|---|
| parallel | every slot is computed on its own |
| contraction | a removed slot contributes nothing to a sum of products |
| structural | slots are moved, not computed with |
| reduction | removed slots are masked where they enter the reduction |
| count | as reduction, after the number of slots that are averaged over is corrected |
| normaliser | statistics run over the slots: pinned, or cut as [`layernorm=`](pruning.md#layernorm) says |
| frozen | the axes it works along, or all of them, never shrink |
"""


def render() -> str:
    """The page."""
    rows = [row for module in MODULES for row in _rows(module)]
    parts = [INTRO.format(known=len(BY_OP), rows=len(rows), first=OPSETS[0], last=OPSETS[1])]
    parts += [_section(TITLES[module], _rows(module)) for module in MODULES]
    return "\n".join([*parts, _meanings()])


def _meanings() -> str:
    rows = [f"| {_word(trait)} | {_cell(trait.value)} |" for trait in Trait]
    return "\n".join(["## Traits", "", "| trait | meaning |", "|---|---|", *rows]) + "\n"


def _rows(module: str) -> tuple[Record, ...]:
    found: tuple[Record, ...] = importlib.import_module(f"{rules.__name__}.{module}").ROWS
    return found


def _section(title: str, rows: tuple[Record, ...]) -> str:
    heads, layers = ["operators", "rule", "exactness", "edits", "traits"], any(row.layer for row in rows)
    heads += ["weight"] if layers else []
    lines = [f"## {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = (
            "; ".join(_operators(row.ops)),
            _cell(row.labels),
            row.exactness,
            _cell(row.edits),
            _traits(row),
            *([str(row.layer or "")] if layers else []),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _operators(ops: tuple[str, ...]) -> Iterator[str]:
    """The operators of each domain, the domain named once."""
    for domain, members in groupby(ops, key=lambda op: op.rpartition(":")[0]):
        names = " ".join(f"`{op.rpartition(':')[2]}`" for op in members)
        yield f"{domain}: {names}" if domain else names


def _traits(row: Record) -> str:
    return ", ".join(_word(trait) for trait in Trait if trait in row.traits)


def _word(trait: Trait) -> str:
    return trait.name.lower().replace("_", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
