"""What kind of work a node does, for tables of where time goes."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from graphprune.ops import record_of
from graphprune.ops.record import Exactness
from graphprune.ops.traits import Trait

Work = Literal[
    "contractions",
    "elementwise",
    "layout",
    "normalisation",
    "reduction",
    "movement",
    "quantisation",
    "control flow",
    "others",
]
KINDS: tuple[tuple[Work, frozenset[Trait]], ...] = (
    ("control flow", frozenset({Trait.BRANCHES, Trait.BODY})),
    ("layout", frozenset({Trait.BLOCKS, Trait.TRANSPOSE})),
    ("quantisation", frozenset({Trait.QUANTISE, Trait.DEQUANTISE})),
    (
        "normalisation",
        frozenset(
            {
                Trait.PROBABILITIES,
                Trait.LOG_PROBABILITIES,
                Trait.BATCH_NORM,
                Trait.CHANNEL_NORM,
                Trait.WIDTH_NORM,
                Trait.OTHER_NORM,
            }
        ),
    ),
    ("reduction", frozenset({Trait.WINDOW, Trait.SELECT})),
    (
        "movement",
        frozenset(
            {Trait.LAYOUT, Trait.PART, Trait.GATHER, Trait.CONCAT, Trait.REPEAT, Trait.RESIZE, Trait.SIZES}
        ),
    ),
)
"""What an operator with one of these traits does; the first that fits."""
OTHERWISE: dict[Exactness, Work] = {
    "contraction": "contractions",
    "parallel": "elementwise",
    "structural": "movement",
    "reduction": "reduction",
    "count": "reduction",
    "normaliser": "normalisation",
    "frozen": "others",
}


def work_of(node: ir.Node) -> Work:
    """What kind of work a node does; contractions are all that multiplies and adds, fused forms included."""
    row = record_of(node)
    if row is None:
        return "others"
    if row.macs is not None:
        return "contractions"
    fitting = (kind for kind, traits in KINDS if row.traits & traits)
    return next(fitting, OTHERWISE[row.exactness])
