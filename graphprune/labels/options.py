"""Choices that change which structures an analysis may find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LayerNorm = Literal["refuse", "expand", "slice"]


@dataclass(frozen=True)
class Options:
    """What the analysis may assume.

    Attributes:
        layernorm: widths under LayerNorm: `refuse` pins them where a cut would lose a fused kernel,
            `expand` keeps the function exactly with primitive operators, `slice` normalises over the kept
            slots (changes the function; needs allow_inexact).
        allow_inexact: permit cuts after which a normaliser computes another function.
        share: `tie` has layers that are applied more than once lose the same slots everywhere; `split` gives
            every use of a shared weight its own labels.
        dequantize: weights behind DequantizeLinear are made floats before anything else.
        io: `auto` frees the heads and head dims of cache inputs that are joined to an output; `fixed` does
            not.
    """

    layernorm: LayerNorm = "refuse"
    allow_inexact: bool = False
    share: Literal["split", "tie"] = "tie"
    io: Literal["auto", "fixed"] = "auto"
    shuffle: Literal["gather", "keep"] = "gather"
    dequantize: bool = False
