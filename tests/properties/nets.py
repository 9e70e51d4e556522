"""Generated nets for relations between two compiles."""

from __future__ import annotations

from tools.fuzz.generate import Graph, generate
from tools.fuzz.net import Style

CHAINS = (
    ("residual", "excite", "parted"),
    ("grouped", "depthwise", "inception"),
    ("gate", "shuffle", "shared"),
    ("attention", "glu"),
    ("rms_norm", "recurrent", "mlp"),
)


def net(chain: tuple[str, ...], seed: int = 5, planted: bool = False, **style: object) -> Graph:
    """The generated graph of a chain of blocks, plain in everything that `style` does not say."""
    return generate(seed, planted, chain, Style(**style))  # type: ignore[arg-type]
